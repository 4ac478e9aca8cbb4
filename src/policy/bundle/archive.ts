import { crc32, gunzip } from 'node:zlib';
import { promisify } from 'node:util';
import { AppError, messageOf } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';

/** Limits of an archive, checked before anything in it is looked at. */
export const ARCHIVE_LIMIT = {
  compressedBytes: 64 * 1024 * 1024,
  expandedBytes: 256 * 1024 * 1024,
  entries: 4_096,
} as const;

/** Files of an archive by their relative path, in archive order. */
export type ArchiveFiles = ReadonlyMap<string, Buffer>;

const BLOCK_BYTES = 512;
/** Header fields of POSIX.1-1988 ustar: offset and length. */
const FIELD = {
  name: [0, 100],
  size: [124, 12],
  checksum: [148, 8],
  type: [156, 1],
  magic: [257, 6],
  prefix: [345, 155],
} as const;
const REGULAR_TYPES: ReadonlySet<string> = new Set(['0', '\0']);
/** What OPA calls the file of a bundle that holds changes instead of everything; it writes a slash before it. */
const DELTA_FILE = /^\/?patch\.json$/;
const SAFE_SEGMENT = /^[A-Za-z0-9._@+ -]+$/;

const broken = (what: string, cause?: unknown): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_ARCHIVE', what, { cause });

const field = (header: Buffer, [at, length]: readonly [number, number]): string => {
  const text = header.toString('latin1', at, at + length);
  const end = text.indexOf('\0');
  return end === -1 ? text : text.slice(0, end);
};

const octal = (header: Buffer, range: readonly [number, number], what: string): number => {
  const text = field(header, range).trim();
  if (!/^[0-7]{1,11}$/.test(text)) throw broken(`archive entry has a malformed ${what}`);
  return Number.parseInt(text, 8);
};

const checksumOf = (header: Buffer): number => {
  const [at, length] = FIELD.checksum;
  let sum = 0;
  for (let index = 0; index < BLOCK_BYTES; index += 1) {
    sum += index >= at && index < at + length ? 0x20 : (header[index] ?? 0);
  }
  return sum;
};

/** OPA writes names with a leading slash; only its own output, straight from the compiler, is read so. */
const safeName = (raw: string, fromOpa: boolean): string => {
  const name = fromOpa && raw.startsWith('/') ? raw.slice(1) : raw;
  if (DELTA_FILE.test(name)) throw broken('this is a delta bundle; only whole ones (snapshots) are taken');
  const shown = JSON.stringify(name.slice(0, 128));
  if (name.startsWith('/')) throw broken(`archive entry ${shown} is absolute`);
  const segments = name.split('/');
  if (segments.includes('..')) throw broken(`archive entry ${shown} climbs out of the archive`);
  if (segments.some((segment) => segment === '.' || !SAFE_SEGMENT.test(segment))) {
    throw broken(`archive entry ${shown} is not a plain relative path`);
  }
  return name;
};

const isZero = (block: Buffer): boolean => block.every((byte) => byte === 0);

/** Reads an expanded archive; see readArchive. @throws AppError ERR_POLICY_ARCHIVE */
export const readTar = (tar: Buffer, fromOpa: boolean): ArchiveFiles => {
  const files = new Map<string, Buffer>();
  const seen = new Set<string>();
  let at = 0;
  for (;;) {
    const header = tar.subarray(at, at + BLOCK_BYTES);
    if (header.length < BLOCK_BYTES) throw broken('archive ends inside an entry');
    if (isZero(header)) break;
    if (checksumOf(header) !== octal(header, FIELD.checksum, 'checksum')) {
      throw broken('archive entry has a wrong checksum');
    }
    const type = String.fromCharCode(header[FIELD.type[0]] ?? 0);
    if (field(header, FIELD.magic).slice(0, 5) !== 'ustar') throw broken('archive is not in ustar format');
    const prefix = field(header, FIELD.prefix);
    const raw = field(header, FIELD.name);
    const name = safeName(prefix === '' ? raw : `${prefix}/${raw}`, fromOpa);
    if (!REGULAR_TYPES.has(type)) {
      throw broken(`archive entry '${name}' is not a regular file (type ${JSON.stringify(type)})`);
    }
    // Names that differ in case alone would be one file on some systems.
    if (seen.has(name.toLowerCase())) throw broken(`archive holds '${name}' twice`);
    seen.add(name.toLowerCase());
    if (seen.size > ARCHIVE_LIMIT.entries) {
      throw broken(`archive holds more than ${String(ARCHIVE_LIMIT.entries)} files`);
    }
    const size = octal(header, FIELD.size, 'size');
    const start = at + BLOCK_BYTES;
    if (start + size > tar.length) throw broken(`archive ends inside '${name}'`);
    files.set(name, tar.subarray(start, start + size));
    at = start + Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
  }
  if (!isZero(tar.subarray(at))) throw broken('archive has data after its end');
  return files;
};

const expand = promisify<Buffer, { maxOutputLength: number }, Buffer>(gunzip);

/**
 * Reads a `.tar.gz` of regular files only, within ARCHIVE_LIMIT; decompression runs off the event loop. Links,
 * devices, directories, extension headers, repeated, absolute and climbing names, trailing data and bombs are refused.
 * @returns views into one buffer owned by the caller
 * @throws AppError ERR_POLICY_ARCHIVE
 */
export const readArchive = async (
  archive: Buffer,
  options: { readonly fromOpa?: boolean } = {},
): Promise<ArchiveFiles> => {
  if (archive.length > ARCHIVE_LIMIT.compressedBytes) {
    throw broken(
      `archive has ${String(archive.length)} bytes, the limit is ${String(ARCHIVE_LIMIT.compressedBytes)}`,
    );
  }
  let tar: Buffer;
  try {
    tar = await expand(archive, { maxOutputLength: ARCHIVE_LIMIT.expandedBytes });
  } catch (cause) {
    throw broken(`archive does not expand: ${messageOf(cause)}`, cause);
  }
  return readTar(tar, options.fromOpa ?? false);
};

const MAX_NAME_BYTES = 100;

const headerOf = (name: string, size: number): Buffer => {
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) {
    throw broken(`archive name '${name}' is longer than ${String(MAX_NAME_BYTES)} bytes`);
  }
  const header = Buffer.alloc(BLOCK_BYTES);
  const octalText = (value: number, digits: number): string => `${value.toString(8).padStart(digits, '0')}\0`;
  header.write(name, 0);
  header.write(octalText(0o644, 7), 100);
  header.write(octalText(0, 7), 108);
  header.write(octalText(0, 7), 116);
  header.write(octalText(size, 11), 124);
  header.write(octalText(0, 11), 136);
  header.write('0', FIELD.type[0]);
  header.write('ustar\x0000', FIELD.magic[0], 'latin1');
  header.write(`${checksumOf(header).toString(8).padStart(6, '0')}\0 `, FIELD.checksum[0]);
  return header;
};

/** RFC 1952 §2.3.1: deflate, no flags, time 0, no extra flags, operating system unknown. */
const GZIP_HEADER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
const STORED_BLOCK_BYTES = 65_535;

/** Stored blocks (RFC 1951 §3.2.4): compressors differ between versions and processors, these bytes never do. */
const gzipStored = (content: Buffer): Buffer => {
  const parts: Buffer[] = [GZIP_HEADER];
  for (let at = 0; at < content.length || at === 0; at += STORED_BLOCK_BYTES) {
    const part = content.subarray(at, at + STORED_BLOCK_BYTES);
    const head = Buffer.alloc(5);
    head[0] = at + STORED_BLOCK_BYTES >= content.length ? 1 : 0;
    head.writeUInt16LE(part.length, 1);
    head.writeUInt16LE(~part.length & 0xffff, 3);
    parts.push(head, part);
  }
  const tail = Buffer.alloc(8);
  tail.writeUInt32LE(crc32(content) >>> 0, 0);
  tail.writeUInt32LE(content.length >>> 0, 4);
  return Buffer.concat([...parts, tail]);
};

/**
 * Writes a `.tar.gz` whose bytes depend on names and contents alone: sorted, dated 1970, owned by 0, stored.
 * @throws AppError ERR_POLICY_ARCHIVE for a name over 100 bytes
 */
export const writeArchive = (files: ArchiveFiles): Buffer => {
  const names = [...files.keys()].sort();
  const parts = names.flatMap((name) => {
    const content = files.get(name) ?? Buffer.alloc(0);
    const padding = (BLOCK_BYTES - (content.length % BLOCK_BYTES)) % BLOCK_BYTES;
    return [headerOf(name, content.length), content, Buffer.alloc(padding)];
  });
  return gzipStored(Buffer.concat([...parts, Buffer.alloc(2 * BLOCK_BYTES)]));
};
