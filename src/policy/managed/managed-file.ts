import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError, foreignCodeOf, MAX_CONFIG_BYTES, messageOf } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';

const IS_WINDOWS = process.platform === 'win32';
/** `/etc` of macOS is a symbolic link, and no part of the path may be one. */
const ETC = process.platform === 'darwin' ? '/private/etc' : '/etc';
const ROOT_UID = 0;
const GROUP_WRITE = 0o020;
const OTHER_WRITE = 0o002;
const STICKY = 0o1000;

/** Where managed settings are, and whose they must be. */
export interface ManagedLocation {
  /** Absolute. */
  readonly path: string;
  /** Numeric user id that must own the file; directories above it may be root's as well. */
  readonly owner: number;
}

/** The one place in production. No option, variable or agent.yaml names another: who restricts is not who is restricted. */
export const MANAGED_LOCATION: ManagedLocation = {
  path: IS_WINDOWS ? 'C:\\ProgramData\\Sallyport\\managed.yaml' : `${ETC}/sallyport/managed.yaml`,
  owner: ROOT_UID,
};

export interface ManagedBytes {
  readonly text: string;
  /** Hex SHA-256 of the bytes. */
  readonly sha256: string;
}

const refuse = (message: string, cause?: unknown): AppError<PolicyErrorCode> =>
  new AppError<PolicyErrorCode>('ERR_POLICY_MANAGED', message, { cause });

const unreadable = (path: string, error: unknown): AppError<PolicyErrorCode> =>
  refuse(`cannot read ${path}: ${foreignCodeOf(error) ?? messageOf(error)}`, error);

/** Ids and modes mean nothing on Windows: there the directory's access list is what protects the file. */
const requireOwner = (path: string, { uid, mode }: Stats, owners: readonly number[]): void => {
  if (IS_WINDOWS) return;
  if (!owners.includes(uid)) {
    throw refuse(`${path} belongs to user ${uid}, not to ${[...new Set(owners)].join(' or ')}`);
  }
  const isSharedSafely = (mode & STICKY) !== 0;
  if (isSharedSafely) return;
  if ((mode & GROUP_WRITE) !== 0) throw refuse(`${path} is writable by its group`);
  if ((mode & OTHER_WRITE) !== 0) throw refuse(`${path} is writable by others`);
};

const ancestorsOf = (path: string): string[] => {
  const parent = dirname(path);
  return parent === path ? [] : [...ancestorsOf(parent), parent];
};

/**
 * Makes sure that nobody but root and the owner can put another file in this place, or take it away: no directory above
 * it is somebody else's, writable by somebody else (a sticky one protects its entries) or a symbolic link. Directories
 * that are not there are no danger.
 * @throws AppError ERR_POLICY_MANAGED
 */
export const requireSafePlace = async ({ path, owner }: ManagedLocation): Promise<void> => {
  for (const directory of ancestorsOf(path)) {
    let stats: Stats;
    try {
      stats = await lstat(directory);
    } catch (error) {
      if (foreignCodeOf(error) === 'ENOENT') return;
      throw unreadable(directory, error);
    }
    if (!stats.isDirectory()) throw refuse(`${directory} is not a directory`);
    requireOwner(directory, stats, [ROOT_UID, owner]);
  }
};

const readWhole = async (file: FileHandle, path: string, owner: number): Promise<Buffer> => {
  const before = await file.stat();
  if (!before.isFile()) throw refuse(`${path} is not a regular file`);
  if ((before.mode & STICKY) !== 0) throw refuse(`${path} has the sticky bit, which a file has no use for`);
  requireOwner(path, before, [owner]);
  if (before.size > MAX_CONFIG_BYTES) {
    throw refuse(`${path} has ${before.size} bytes, managed settings have at most ${MAX_CONFIG_BYTES}`);
  }
  const bytes = Buffer.alloc(before.size);
  const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
  const after = await file.stat();
  const isSame =
    after.size === before.size && after.mtimeMs === before.mtimeMs && after.ctimeMs === before.ctimeMs;
  if (bytesRead !== before.size || !isSame) throw refuse(`${path} changed while it was read`);
  return bytes;
};

/**
 * Reads managed settings from the one open file whose owner was checked; undefined when there is none.
 * @throws AppError ERR_POLICY_MANAGED when anybody but the owner could have written it, when it is a symbolic link or no
 * regular file, too large, no UTF-8, being written, or cannot be read
 */
export const readManagedFile = async (location: ManagedLocation): Promise<ManagedBytes | undefined> => {
  const { path, owner } = location;
  let file: FileHandle;
  try {
    // Without O_NONBLOCK a named pipe in its place would hold the process up. Windows has neither flag.
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (foreignCodeOf(error) === 'ENOENT') return undefined;
    if (foreignCodeOf(error) === 'ELOOP') throw refuse(`${path} is a symbolic link`, error);
    throw unreadable(path, error);
  }
  let bytes: Buffer;
  try {
    await requireSafePlace(location);
    bytes = await readWhole(file, path, owner);
  } finally {
    await file.close();
  }
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return { text, sha256: createHash('sha256').update(bytes).digest('hex') };
  } catch (error) {
    throw refuse(`${path} is not UTF-8`, error);
  }
};
