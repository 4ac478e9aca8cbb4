import { HEADER_BYTES } from './constants.ts';

const TWO_32 = 0x1_0000_0000;

/** Writes the 16-byte header, big-endian; `value` is at most 2^53 - 1. */
export const writeHeader = (
  into: Buffer,
  at: number,
  type: number,
  flags: number,
  payloadBytes: number,
  stream: number,
  value: number,
): void => {
  const high = Math.floor(value / TWO_32);
  into[at] = type;
  into[at + 1] = flags;
  into[at + 2] = payloadBytes >>> 8;
  into[at + 3] = payloadBytes & 0xff;
  writeWord(into, at + 4, stream);
  writeWord(into, at + 8, high);
  writeWord(into, at + 12, value - high * TWO_32);
};

const writeWord = (into: Buffer, at: number, word: number): void => {
  into[at] = word >>> 24;
  into[at + 1] = (word >>> 16) & 0xff;
  into[at + 2] = (word >>> 8) & 0xff;
  into[at + 3] = word & 0xff;
};

/** A u64 as two words; `undefined` above 2^53 - 1, which no honest peer sends. */
export const readValue = (from: Buffer, at: number): number | undefined => {
  const value = from.readUInt32BE(at) * TWO_32 + from.readUInt32BE(at + 4);
  return Number.isSafeInteger(value) ? value : undefined;
};

export const writeValue = (into: Buffer, at: number, value: number): void => {
  const high = Math.floor(value / TWO_32);
  writeWord(into, at, high);
  writeWord(into, at + 4, value - high * TWO_32);
};

/** A whole frame in a buffer of its own; for every type but DATA. */
export const encodeFrame = (
  type: number,
  flags: number,
  stream: number,
  value: number,
  payload?: Buffer,
): Buffer => {
  const payloadBytes = payload?.length ?? 0;
  const frame = Buffer.allocUnsafe(HEADER_BYTES + payloadBytes);
  writeHeader(frame, 0, type, flags, payloadBytes, stream, value);
  payload?.copy(frame, HEADER_BYTES);
  return frame;
};
