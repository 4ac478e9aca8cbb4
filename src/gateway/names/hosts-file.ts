import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import {
  AppError,
  type Clock,
  environment,
  foreignCodeOf,
  messageOf,
  randomBytes,
  reasonOf,
  syncDirectory,
  waitForPathLock,
} from '../../runtime/index.ts';
import type { GatewayErrorCode } from '../errors.ts';

/** Lists that block advertisements have some megabytes; a hosts file is read whole. */
export const MAX_HOSTS_BYTES = 32 * 1024 * 1024;
/** Others that edit the file are waited for this long. */
export const HOSTS_WAIT_MS = 10_000;
/** Of a hosts file that was not there: everybody reads it. */
const HOSTS_MODE = 0o644;
const MODE_BITS = 0o7777;

const refuse = (code: GatewayErrorCode, message: string, cause?: unknown): AppError<GatewayErrorCode> =>
  new AppError(code, message, { cause, retryable: code === 'ERR_HOSTS_BUSY' });

/** Where this system keeps the names that it looks up before it asks DNS. */
export const systemHostsFile = (): string =>
  process.platform === 'win32'
    ? join(environment['SystemRoot'] ?? 'C:\\Windows', 'System32', 'drivers', 'etc', 'hosts')
    : '/etc/hosts';

/** The bytes of a hosts file as Latin-1 characters; none when it is not there. @throws AppError ERR_HOSTS_FILE */
export const readHostsFile = (file: string): string => {
  try {
    const stats = statSync(file);
    if (!stats.isFile()) throw refuse('ERR_HOSTS_FILE', `${file} is no regular file`);
    if (stats.size > MAX_HOSTS_BYTES) {
      throw refuse(
        'ERR_HOSTS_FILE',
        `${file} has ${stats.size} bytes, a hosts file has at most ${MAX_HOSTS_BYTES}`,
      );
    }
    return readFileSync(file, 'latin1');
  } catch (error) {
    if (error instanceof AppError) throw error;
    if (foreignCodeOf(error) === 'ENOENT') return '';
    throw refuse('ERR_HOSTS_FILE', `cannot read ${file}: ${reasonOf(error)}`, error);
  }
};

/** What became of a hosts file. */
export interface HostsWrite {
  readonly changed: boolean;
  /** It could not be replaced in one step and was written over: a bind mount, a hard link, a read-only directory. */
  readonly inPlace: boolean;
}

/** The file behind symbolic links, which stay. */
const realFile = (file: string): string => {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
};

/** Whether the file could be replaced; false when only writing over it may work. */
const tryReplace = (path: string, bytes: Buffer, stats: Stats | undefined): boolean => {
  if (stats !== undefined && stats.nlink > 1) return false;
  const temporary = join(dirname(path), `.sallyport-hosts-${randomBytes(6).toString('hex')}.tmp`);
  try {
    const file = openSync(temporary, 'wx', HOSTS_MODE);
    try {
      writeFileSync(file, bytes);
      if (stats !== undefined && process.platform !== 'win32') {
        fchownSync(file, stats.uid, stats.gid);
        // Behind chown, which clears some bits; and the umask had its say.
        fchmodSync(file, stats.mode & MODE_BITS);
      } else if (stats === undefined) fchmodSync(file, HOSTS_MODE);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    // A name that is mounted over cannot be renamed over; a directory may take no files, or not give them away.
    if (['EBUSY', 'EXDEV', 'EROFS', 'EACCES', 'EPERM'].includes(foreignCodeOf(error) ?? '')) return false;
    throw error;
  }
  syncDirectory(dirname(path));
  return true;
};

/**
 * Writes over a file so that whoever reads meanwhile finds every line of the new text: a shorter one is followed by empty
 * lines until the file is cut. A machine that stops within it may leave both texts mixed.
 */
const writeOver = (path: string, bytes: Buffer): void => {
  const file = openSync(path, constants.O_WRONLY);
  try {
    const { size } = fstatSync(file);
    const whole =
      size > bytes.length ? Buffer.concat([bytes, Buffer.alloc(size - bytes.length, '\n')]) : bytes;
    for (let at = 0; at < whole.length; ) at += writeSync(file, whole, at, whole.length - at, at);
    fsyncSync(file);
    ftruncateSync(file, bytes.length);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
};

/**
 * Reads a hosts file, and writes what `edit` makes of it with the same owner and mode. One editor at a time, on Linux.
 * @throws AppError ERR_HOSTS_FILE, ERR_HOSTS_BUSY; what `edit` throws
 */
export const editHostsFile = async (
  file: string,
  clock: Clock,
  edit: (text: string) => string,
): Promise<HostsWrite> => {
  const lock = await waitForPathLock(file, 'hosts', clock, HOSTS_WAIT_MS);
  if (lock === undefined) {
    throw refuse('ERR_HOSTS_BUSY', `another process has been editing ${file} for ${HOSTS_WAIT_MS / 1_000} s`);
  }
  try {
    const before = readHostsFile(file);
    const after = edit(before);
    if (after === before) return { changed: false, inPlace: false };
    const path = realFile(file);
    const bytes = Buffer.from(after, 'latin1');
    const stats = statSync(path, { throwIfNoEntry: false });
    try {
      if (tryReplace(path, bytes, stats)) return { changed: true, inPlace: false };
      writeOver(path, bytes);
      return { changed: true, inPlace: true };
    } catch (error) {
      throw refuse('ERR_HOSTS_FILE', `cannot write ${file}: ${writeReason(error)}`, error);
    }
  } finally {
    await lock.release();
  }
};

const writeReason = (error: unknown): string => {
  switch (foreignCodeOf(error)) {
    case 'EACCES':
    case 'EPERM':
      return 'this user may not; run the command as root (sudo), or give --file another file';
    case 'EROFS':
      return 'its file system is read-only; let what makes the file have the names (`sallyport hosts print` shows them)';
    default:
      return messageOf(error);
  }
};
