import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { makePrivateDirectory, PRIVATE_FILE_MODE, syncDirectory } from '../../runtime/index.ts';
import type { Place } from './place.ts';

/** After a file of this length the next one begins: 3 KB every 5 minutes fill it in 2 months. */
const MAX_FILE_BYTES = 64 * 1024 * 1024;
const LF = '\n';

/** The number behind the name: none for the first file; undefined when it is another file. */
const numberIn = (name: string, first: string): number | undefined => {
  if (name === first) return 0;
  const digits = name.startsWith(`${first}.`) ? name.slice(first.length + 1) : '';
  return /^[1-9]\d{0,8}$/.test(digits) ? Number(digits) : undefined;
};

const readEnd = async (handle: FileHandle, sizeBytes: number, wantedBytes: number): Promise<string> => {
  const length = Math.min(sizeBytes, wantedBytes);
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, sizeBytes - length);
  return buffer.subarray(0, bytesRead).toString('utf8');
};

/**
 * JSON lines in `NAME`, then `NAME.1`, `NAME.2` …, that are only ever appended to and keep their names: a copy can follow them.
 * What stands there is never written again, also not what a crash cut.
 */
export class FilePlace implements Place {
  readonly name = 'file';
  readonly #file: string;
  readonly #maxBytes: number;

  constructor(file: string, maxBytes = MAX_FILE_BYTES) {
    this.#file = file;
    this.#maxBytes = maxBytes;
  }

  /** Durable on return. */
  async take(line: string): Promise<void> {
    const directory = dirname(this.#file);
    makePrivateDirectory(directory);
    const handle = await open(await this.#current(), 'a+', PRIVATE_FILE_MODE);
    let isNew: boolean;
    try {
      const { size } = await handle.stat();
      isNew = size === 0;
      const whole = `${line}${LF}`;
      const end = await readEnd(handle, size, Buffer.byteLength(whole) + 1);
      // After a crash the last one is taken again, and what was cut of it is left where it is.
      if (end !== whole && !end.endsWith(`${LF}${whole}`)) {
        await handle.appendFile(isNew || end.endsWith(LF) ? whole : `${LF}${whole}`);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (isNew) syncDirectory(directory);
  }

  /** The last file, or the one after it when that is full. */
  async #current(): Promise<string> {
    const names = await readdir(dirname(this.#file));
    const numbers = names.flatMap((name) => numberIn(name, basename(this.#file)) ?? []);
    const last = Math.max(0, ...numbers);
    const path = this.#numbered(last);
    const isFull = numbers.length > 0 && (await stat(path)).size >= this.#maxBytes;
    return isFull ? this.#numbered(last + 1) : path;
  }

  #numbered(number: number): string {
    return number === 0 ? this.#file : `${this.#file}.${number}`;
  }
}
