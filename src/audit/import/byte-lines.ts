import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

const NEWLINE = 0x0a;
/** The longest line: an event of 262,144 code units at three bytes each, and its place. */
const MAX_LINE_BYTES = 1024 * 1024;

/** What a file was, known when its last line has been read. */
export interface FileSum {
  bytes: number;
  sha256: string;
}

/**
 * The lines of a file as bytes, without their line breaks, one at a time; `sum` is filled in at the end.
 * @throws RangeError for a line that is too long, or a last one without its end; what the disk throws
 */
export async function* byteLines(file: string, sum: FileSum): AsyncGenerator<Buffer, void, undefined> {
  const hash = createHash('sha256');
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    sum.bytes += chunk.length;
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let from = 0;
    for (let at = bytes.indexOf(NEWLINE); at !== -1; at = bytes.indexOf(NEWLINE, from)) {
      yield bytes.subarray(from, at);
      from = at + 1;
    }
    rest = bytes.subarray(from);
    if (rest.length > MAX_LINE_BYTES) throw new RangeError(`a line is longer than ${MAX_LINE_BYTES} bytes`);
  }
  if (rest.length > 0) throw new RangeError('the last line has no end');
  sum.sha256 = hash.digest('hex');
}
