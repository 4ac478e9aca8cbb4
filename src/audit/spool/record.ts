import { crc32 } from 'node:zlib';
import { LEAF_PREFIX } from '../seal/merkle.ts';

/** First bytes of every segment file. */
export const SEGMENT_MAGIC = Buffer.from('SPSPOOL1', 'ascii');

/** Kinds of spool records; numbers are file format. `moreOpenStreams` adds to the `openStreams` before it. */
export const RECORD = { header: 1, event: 2, seal: 3, openStreams: 4, moreOpenStreams: 5 } as const;

/** CRC-32 of everything after itself (4), payload length (4), kind (1); integers are big-endian. */
export const RECORD_HEAD_BYTES = 9;
/** Event payload: sequence number (8), the leaf prefix 0x00 (1), canonical bytes. */
export const EVENT_HEAD_BYTES = 9;
const SEQ_BYTES = 8;
const MAX_PAYLOAD_BYTES = 8 * 1024 * 1024;

/** Bytes of the record that carries an event of this many canonical bytes. */
export const eventRecordBytes = (canonicalBytes: number): number =>
  RECORD_HEAD_BYTES + EVENT_HEAD_BYTES + canonicalBytes;

const finish = (target: Buffer, at: number, kind: number, payloadBytes: number): number => {
  const end = at + RECORD_HEAD_BYTES + payloadBytes;
  target.writeUInt32BE(payloadBytes, at + 4);
  target[at + 8] = kind;
  target.writeUInt32BE(crc32(target.subarray(at + 4, end)), at);
  return end;
};

/**
 * Writes an event record at `at`; the leaf's hash input (0x00 ‖ canonical bytes) stands in it whole.
 * Returns the end of the record and where the hash input starts.
 */
export const writeEventRecord = (
  target: Buffer,
  at: number,
  seq: number,
  text: string,
  canonicalBytes: number,
): { end: number; leafAt: number } => {
  const payload = at + RECORD_HEAD_BYTES;
  target.writeBigUInt64BE(BigInt(seq), payload);
  const leafAt = payload + SEQ_BYTES;
  target[leafAt] = LEAF_PREFIX;
  target.write(text, leafAt + 1, canonicalBytes, 'utf8');
  return { end: finish(target, at, RECORD.event, EVENT_HEAD_BYTES + canonicalBytes), leafAt };
};

/** A whole record of any kind. @throws RangeError for a payload over 8 MiB: no reader would take it */
export const record = (kind: number, ...payload: readonly Uint8Array[]): Buffer => {
  const payloadBytes = payload.reduce((sum, part) => sum + part.length, 0);
  if (payloadBytes > MAX_PAYLOAD_BYTES) {
    throw new RangeError(`a record of ${payloadBytes} bytes; the limit is ${MAX_PAYLOAD_BYTES}`);
  }
  const target = Buffer.concat([Buffer.alloc(RECORD_HEAD_BYTES), ...payload]);
  finish(target, 0, kind, payloadBytes);
  return target;
};

export interface SpoolRecord {
  readonly kind: number;
  /** A view into the bytes that were read. */
  readonly payload: Buffer;
  /** Offsets of the record within the bytes that were read. */
  readonly from: number;
  readonly to: number;
}

/** Whole records from the front; ends before the first that is torn or does not match its CRC. */
export function* readRecords(bytes: Buffer, start = 0): Generator<SpoolRecord, void> {
  let from = start;
  while (from + RECORD_HEAD_BYTES <= bytes.length) {
    const payloadBytes = bytes.readUInt32BE(from + 4);
    const to = from + RECORD_HEAD_BYTES + payloadBytes;
    if (payloadBytes > MAX_PAYLOAD_BYTES || to > bytes.length) return;
    if (crc32(bytes.subarray(from + 4, to)) !== bytes.readUInt32BE(from)) return;
    yield {
      kind: bytes[from + 8] ?? 0,
      payload: bytes.subarray(from + RECORD_HEAD_BYTES, to),
      from,
      to,
    };
    from = to;
  }
}

/** Sequence number and canonical bytes of an event payload (a view). */
export const readEventPayload = (payload: Buffer): { seq: number; canonical: Buffer; leafInput: Buffer } => ({
  seq: Number(payload.readBigUInt64BE(0)),
  canonical: payload.subarray(EVENT_HEAD_BYTES),
  leafInput: payload.subarray(SEQ_BYTES),
});
