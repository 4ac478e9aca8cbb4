import {
  appendFileSync,
  closeSync,
  existsSync,
  fdatasyncSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  writevSync,
} from 'node:fs';
import { PRIVATE_FILE_MODE, syncDirectory } from '../../runtime/index.ts';
import type { FileHooks } from '../audit-log.ts';

/** The file operations of the spool, all synchronous; a worker thread is where they run. */
export interface FileLayer {
  /** Creates a file (0600); it must not exist. */
  create(path: string): number;
  /** Writes all buffers at an offset; whole on return. */
  writev(file: number, buffers: readonly Buffer[], position: number): void;
  fdatasync(file: number): void;
  /** Whether the path still leads to this open file: one that was removed takes writes as if nothing had happened. */
  isAt(path: string, file: number): boolean;
  ftruncate(file: number, lengthBytes: number): void;
  close(file: number): void;
  syncDirectory(path: string): void;
  unlink(path: string): void;
  rename(from: string, to: string): void;
  /** Exactly `lengthBytes` bytes at `position`; fewer at the end of the file. */
  read(path: string, position: number, lengthBytes: number): Buffer;
}

export const diskFiles: FileLayer = {
  create: (path) => openSync(path, 'wx+', PRIVATE_FILE_MODE),
  writev(file, buffers, position) {
    let pending = buffers.filter((buffer) => buffer.length > 0);
    let at = position;
    while (pending.length > 0) {
      let written = writevSync(file, pending, at);
      at += written;
      const rest: Buffer[] = [];
      for (const buffer of pending) {
        if (written >= buffer.length) written -= buffer.length;
        else {
          rest.push(buffer.subarray(written));
          written = 0;
        }
      }
      pending = rest;
    }
  },
  fdatasync: (file) => fdatasyncSync(file),
  isAt(path, file) {
    const there = statSync(path, { throwIfNoEntry: false });
    const open = fstatSync(file);
    return there !== undefined && there.ino === open.ino && there.dev === open.dev;
  },
  ftruncate: (file, lengthBytes) => ftruncateSync(file, lengthBytes),
  close: (file) => closeSync(file),
  syncDirectory: (path) => syncDirectory(path),
  unlink: (path) => unlinkSync(path),
  rename: (from, to) => renameSync(from, to),
  read(path, position, lengthBytes) {
    const file = openSync(path, 'r');
    try {
      const bytes = Buffer.allocUnsafe(lengthBytes);
      let got = 0;
      while (got < lengthBytes) {
        const count = readSync(file, bytes, got, lengthBytes - got, position + got);
        if (count === 0) break;
        got += count;
      }
      return bytes.subarray(0, got);
    } finally {
      closeSync(file);
    }
  },
};

const EVENT_ID = /"id":"([0-9a-f-]{36})",(?:"local"|"origin")/g;

const idsIn = (buffers: readonly Buffer[]): string[] =>
  buffers.flatMap((buffer) =>
    [...buffer.toString('latin1').matchAll(EVENT_ID)].map((match) => match[1] ?? ''),
  );

/** A file layer that records every operation and can be told to fail, by files that a test owns. */
export const hookedFiles = (hooks: FileHooks, files: FileLayer = diskFiles): FileLayer => {
  const run = <T>(operation: string, details: () => object, call: () => T): T => {
    const startNs = process.hrtime.bigint();
    let failure: string | undefined;
    try {
      const faults =
        hooks.faultFile !== undefined && existsSync(hooks.faultFile)
          ? readFileSync(hooks.faultFile, 'utf8')
          : '';
      if (faults.split(/\s+/).includes(operation)) {
        throw Object.assign(new Error(`EIO: injected fault, ${operation}`), { code: 'EIO' });
      }
      return call();
    } catch (thrown) {
      failure = String(thrown);
      throw thrown;
    } finally {
      if (hooks.traceFile !== undefined) {
        const line = {
          operation,
          start_ns: String(startNs),
          end_ns: String(process.hrtime.bigint()),
          ok: failure === undefined,
          ...details(),
        };
        appendFileSync(hooks.traceFile, `${JSON.stringify(line)}\n`);
      }
    }
  };
  return {
    create: (path) =>
      run(
        'open',
        () => ({ path }),
        () => files.create(path),
      ),
    writev: (file, buffers, position) =>
      run(
        'writev',
        () => ({ file, position, ids: idsIn(buffers) }),
        () => files.writev(file, buffers, position),
      ),
    fdatasync: (file) =>
      run(
        'fdatasync',
        () => ({ file }),
        () => files.fdatasync(file),
      ),
    ftruncate: (file, lengthBytes) =>
      run(
        'ftruncate',
        () => ({ file, lengthBytes }),
        () => files.ftruncate(file, lengthBytes),
      ),
    close: (file) =>
      run(
        'close',
        () => ({ file }),
        () => files.close(file),
      ),
    syncDirectory: (path) =>
      run(
        'fsync_directory',
        () => ({ path }),
        () => files.syncDirectory(path),
      ),
    unlink: (path) =>
      run(
        'unlink',
        () => ({ path }),
        () => files.unlink(path),
      ),
    rename: (from, to) =>
      run(
        'rename',
        () => ({ from, to }),
        () => files.rename(from, to),
      ),
    isAt: (path, file) => files.isAt(path, file),
    read: (path, position, lengthBytes) => files.read(path, position, lengthBytes),
  };
};
