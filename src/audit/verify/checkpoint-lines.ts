import { closeSync, createReadStream, fstatSync, openSync } from 'node:fs';
import { messageOf } from '../../runtime/index.ts';
import { MAX_LINE_BYTES, readCheckpointLine, type SignedCheckpoint } from '../checkpoint/checkpoint.ts';
import { auditError } from '../errors.ts';

const LF = 0x0a;
const READ_BYTES = 64 * 1024;

/** A file of checkpoints as it was at one moment: what is appended later is not read. */
export interface CheckpointFile {
  readonly file: string;
  readonly sizeBytes: number;
}

const unreadable = (file: string, cause: unknown): Error =>
  auditError('ERR_AUDIT_TRUST_INVALID', `checkpoint file ${file} is not readable: ${messageOf(cause)}`, {
    cause,
  });

/** @throws AppError ERR_AUDIT_TRUST_INVALID when it cannot be read */
export const openCheckpointFile = (file: string): CheckpointFile => {
  try {
    const handle = openSync(file, 'r');
    try {
      return { file, sizeBytes: fstatSync(handle).size };
    } finally {
      closeSync(handle);
    }
  } catch (cause) {
    throw unreadable(file, cause);
  }
};

interface RawLine {
  /** At most one byte more than a line may have. */
  readonly bytes: Buffer;
  /** It ends in LF. */
  readonly isWhole: boolean;
}

async function* rawLines({ file, sizeBytes }: CheckpointFile): AsyncGenerator<RawLine, void, undefined> {
  if (sizeBytes === 0) return;
  let rest: Buffer = Buffer.alloc(0);
  const keep = (more: Buffer): Buffer =>
    rest.length > MAX_LINE_BYTES ? rest : Buffer.concat([rest, more]).subarray(0, MAX_LINE_BYTES + 1);
  const stream = createReadStream(file, { end: sizeBytes - 1, highWaterMark: READ_BYTES });
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let from = 0;
    for (let at = chunk.indexOf(LF); at !== -1; at = chunk.indexOf(LF, from)) {
      yield { bytes: keep(chunk.subarray(from, at)), isWhole: true };
      rest = Buffer.alloc(0);
      from = at + 1;
    }
    rest = keep(chunk.subarray(from));
  }
  if (rest.length > 0) yield { bytes: rest, isWhole: false };
}

/** A line of a file that is not empty. */
export interface CheckpointLine {
  /** `FILE line N`. */
  readonly name: string;
  /** Undefined when the line is no checkpoint. */
  readonly signed: SignedCheckpoint | undefined;
  /** It is what a crash in the middle of writing leaves: nothing is to be said of it. */
  readonly isTorn: boolean;
}

/** The lines of a file, one at a time. @throws AppError ERR_AUDIT_TRUST_INVALID when it cannot be read */
export async function* checkpointLines(
  source: CheckpointFile,
): AsyncGenerator<CheckpointLine, void, undefined> {
  let number = 0;
  /** No checkpoint: the line after it says whether it is the beginning of one. */
  let doubtful: { readonly name: string; readonly bytes: Buffer } | undefined;
  try {
    for await (const { bytes, isWhole } of rawLines(source)) {
      number += 1;
      if (doubtful !== undefined) {
        const isTorn = bytes.subarray(0, doubtful.bytes.length).equals(doubtful.bytes);
        yield { name: doubtful.name, signed: undefined, isTorn };
        doubtful = undefined;
      }
      const name = `${source.file} line ${number}`;
      const signed = bytes.length > MAX_LINE_BYTES ? undefined : readCheckpointLine(bytes.toString('utf8'));
      if (signed !== undefined) yield { name, signed, isTorn: false };
      else if (!isWhole) yield { name, signed, isTorn: true };
      else if (bytes.length > 0) doubtful = { name, bytes };
    }
  } catch (cause) {
    throw unreadable(source.file, cause);
  }
  if (doubtful !== undefined) yield { name: doubtful.name, signed: undefined, isTorn: false };
}
