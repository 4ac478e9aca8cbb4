import { z } from 'zod';
import { AppError, cleanText } from '../../runtime/index.ts';
import {
  EARLY_BYTES,
  FRAME,
  HEADER_BYTES,
  MAX_FRAME_BYTES,
  MAX_HELLO_BYTES,
  MAX_WINDOW_BYTES,
} from './constants.ts';
import type { SessionErrorCode } from './errors.ts';
import { encodeFrame } from './frame-header.ts';
import { readJsonObject } from './json-payload.ts';
import type { Hello } from './types.ts';

export type { Hello } from './types.ts';

const MAX_NAME = 255;
/** Smallest frame that an end may ask for: it holds every answer. */
const MIN_FRAME_BYTES = 4 * 1024;
const MAX_FEATURES = 64;

const text = (max: number) =>
  z
    .string()
    .max(max)
    .transform((value) => cleanText(value, max));
const bytes = (min: number, max: number) => z.int().min(min).max(max);

/** Unknown fields are dropped, so that a newer peer can say more. */
const helloSchema = z.object({
  v: z.literal(1),
  role: z.enum(['gateway', 'agent']),
  namespace: text(MAX_NAME),
  connection: text(MAX_NAME),
  link_id: text(MAX_NAME),
  name: text(MAX_NAME),
  instance: text(MAX_NAME),
  session_id: text(MAX_NAME),
  epoch: z.int().min(0),
  secret: text(MAX_NAME),
  limits: z.object({
    frame: bytes(MIN_FRAME_BYTES, MAX_FRAME_BYTES),
    window: bytes(EARLY_BYTES, MAX_WINDOW_BYTES),
    streams: z.int().min(1).max(1_000_000),
    early: bytes(0, EARLY_BYTES),
    meta: bytes(1024, MAX_FRAME_BYTES - HEADER_BYTES),
  }),
  features: z.array(text(MAX_NAME)).max(MAX_FEATURES),
  build: text(MAX_NAME),
});

const invalid = (message: string, cause?: unknown): AppError<SessionErrorCode> =>
  new AppError<SessionErrorCode>('ERR_SESSION_HELLO_INVALID', message, cause === undefined ? {} : { cause });

/** The whole HELLO frame. */
export const encodeHello = (hello: Hello): Buffer => {
  const payload = Buffer.from(JSON.stringify(hello), 'utf8');
  if (payload.length > MAX_HELLO_BYTES) {
    throw invalid(`hello has ${payload.length} bytes, limit is ${MAX_HELLO_BYTES}`);
  }
  return encodeFrame(FRAME.HELLO, 0, 0, 0, payload);
};

const parseHello = (payload: Buffer): Hello => {
  const parsed = helloSchema.safeParse(readJsonObject(payload, 'ERR_SESSION_HELLO_INVALID', 'hello'));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const path = issue?.path.join('.') ?? '';
  throw invalid(`hello field ${path} is not valid: ${issue?.message ?? 'unknown'}`);
};

/** Reads the first frame of a peer, which must be HELLO, out of chunks cut anywhere. */
export class HelloReader {
  #held: Buffer = Buffer.alloc(0);

  /**
   * Answers the HELLO and the bytes behind it once it is whole; holds at most `MAX_HELLO_BYTES` and one chunk.
   * @throws AppError ERR_SESSION_HELLO_INVALID
   */
  push(chunk: Buffer): { hello: Hello; rest: Buffer } | undefined {
    const held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = held;
    // Checked from the first byte, so that a peer that speaks something else is found out at once.
    if (held.length > 0 && held[0] !== FRAME.HELLO) throw invalid(`first frame has type ${held[0] ?? 0}`);
    if (held.length < HEADER_BYTES) return undefined;
    const length = held.readUInt16BE(2);
    if (length > MAX_HELLO_BYTES) throw invalid(`hello has ${length} bytes, limit is ${MAX_HELLO_BYTES}`);
    if (held[1] !== 0 || held.readUInt32BE(4) !== 0 || held.readBigUInt64BE(8) !== 0n) {
      throw invalid('hello has flags, a stream number or a value');
    }
    const end = HEADER_BYTES + length;
    if (held.length < end) return undefined;
    this.#held = Buffer.alloc(0);
    return { hello: parseHello(held.subarray(HEADER_BYTES, end)), rest: held.subarray(end) };
  }
}
