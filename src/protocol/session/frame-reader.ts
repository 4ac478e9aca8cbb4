import { AppError } from '../../runtime/index.ts';
import {
  EARLY_BYTES,
  FLAG_FIN,
  FLAG_MOVABLE,
  FRAME,
  HEADER_BYTES,
  MAX_ANSWER_BYTES,
  MAX_HELLO_BYTES,
  MAX_PAYLOAD_BYTES,
} from './constants.ts';
import type { SessionErrorCode } from './errors.ts';
import { readValue } from './frame-header.ts';

/** Where decoded frames go. Buffers belong to the sink, which may keep them. */
export interface FrameSink {
  /** The header of DATA; `length` payload bytes follow in pieces, then `dataEnd`. */
  dataStart(stream: number, flags: number, offset: number, length: number): void;
  /** A part of the payload, never empty, a view of the chunk that was pushed. */
  dataPiece(piece: Buffer): void;
  dataEnd(): void;
  /** Any other frame, whole. */
  frame(type: number, flags: number, stream: number, value: number, payload: Buffer): void;
}

interface FrameRule {
  readonly flags: number;
  readonly minBytes: number;
  readonly maxBytes: number;
  /** Whether the frame belongs to a stream (id 1 and up) or to the link (id 0). */
  readonly ofStream: boolean;
}

const rule = (flags: number, minBytes: number, maxBytes: number, ofStream: boolean): FrameRule => ({
  flags,
  minBytes,
  maxBytes,
  ofStream,
});

/** What each type may carry; a type without a row is a protocol error. */
const rulesFor = (metaBytes: number): readonly (FrameRule | undefined)[] => {
  const rules: (FrameRule | undefined)[] = [];
  rules[FRAME.HELLO] = rule(0, 2, MAX_HELLO_BYTES, false);
  rules[FRAME.OPEN] = rule(0, 2, metaBytes, true);
  rules[FRAME.ACCEPT] = rule(0, 2, MAX_ANSWER_BYTES, true);
  rules[FRAME.REFUSE] = rule(FLAG_MOVABLE, 2, MAX_ANSWER_BYTES, true);
  rules[FRAME.DATA] = rule(FLAG_FIN, 0, MAX_PAYLOAD_BYTES, true);
  rules[FRAME.CREDIT] = rule(FLAG_FIN, 8, 8, true);
  rules[FRAME.BLOCKED] = rule(0, 0, 0, true);
  rules[FRAME.RESET] = rule(0, 2, 2, true);
  rules[FRAME.PING] = rule(0, 0, 0, false);
  rules[FRAME.PONG] = rule(0, 0, 0, false);
  rules[FRAME.GOAWAY] = rule(0, 2, MAX_ANSWER_BYTES, false);
  return rules;
};

const EMPTY = Buffer.alloc(0);

const invalid = (message: string): AppError<SessionErrorCode> =>
  new AppError<SessionErrorCode>('ERR_SESSION_FRAME_INVALID', message);

/**
 * Decodes a byte sequence cut anywhere. Holds at most one header and one payload that is not DATA; DATA is
 * passed through piece by piece.
 */
export class FrameReader {
  readonly #rules: readonly (FrameRule | undefined)[];
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #headerBytes = 0;
  #payload: Buffer = EMPTY;
  #payloadBytes = 0;
  /** Payload bytes of the current frame still to come; 0 between frames. */
  #missing = 0;
  #type = 0;
  #flags = 0;
  #stream = 0;
  #value = 0;

  /** `metaBytes`: longest OPEN payload, as this end announced it. */
  constructor(metaBytes: number = EARLY_BYTES) {
    this.#rules = rulesFor(metaBytes);
  }

  /** Bytes held of a frame that has not come whole. */
  get heldBytes(): number {
    return this.#headerBytes + this.#payload.length;
  }

  /** @throws AppError ERR_SESSION_FRAME_INVALID; the reader is of no use afterwards. */
  push(chunk: Buffer, sink: FrameSink): void {
    let at = 0;
    const end = chunk.length;
    while (at < end) {
      if (this.#missing > 0) {
        const take = Math.min(this.#missing, end - at);
        if (this.#type === FRAME.DATA) {
          this.#missing -= take;
          sink.dataPiece(take === end ? chunk : chunk.subarray(at, at + take));
          if (this.#missing === 0) sink.dataEnd();
        } else {
          chunk.copy(this.#payload, this.#payloadBytes, at, at + take);
          this.#payloadBytes += take;
          this.#missing -= take;
          if (this.#missing === 0) this.#finish(sink);
        }
        at += take;
        continue;
      }
      if (this.#headerBytes === 0 && end - at >= HEADER_BYTES) {
        this.#begin(chunk, at, sink);
        at += HEADER_BYTES;
        continue;
      }
      const take = Math.min(HEADER_BYTES - this.#headerBytes, end - at);
      chunk.copy(this.#header, this.#headerBytes, at, at + take);
      this.#headerBytes += take;
      at += take;
      if (this.#headerBytes === HEADER_BYTES) {
        this.#headerBytes = 0;
        this.#begin(this.#header, 0, sink);
      }
    }
  }

  #begin(from: Buffer, at: number, sink: FrameSink): void {
    const type = from.readUInt8(at);
    const flags = from.readUInt8(at + 1);
    const length = from.readUInt16BE(at + 2);
    const stream = from.readUInt32BE(at + 4);
    const value = readValue(from, at + 8);
    const rule = this.#rules[type];
    if (rule === undefined) throw invalid(`frame type ${type} is not known`);
    if ((flags & ~rule.flags) !== 0) throw invalid(`frame type ${type} has reserved flags ${flags}`);
    if (length < rule.minBytes || length > rule.maxBytes) {
      throw invalid(
        `frame type ${type} has a payload of ${length} bytes, allowed are ${rule.minBytes} to ${rule.maxBytes}`,
      );
    }
    if ((stream !== 0) !== rule.ofStream) throw invalid(`frame type ${type} has stream number ${stream}`);
    if (value === undefined) throw invalid(`frame type ${type} has a value above 2^53 - 1`);
    this.#type = type;
    this.#flags = flags;
    this.#stream = stream;
    this.#value = value;
    this.#missing = length;
    if (type === FRAME.DATA) {
      sink.dataStart(stream, flags, value, length);
      if (length === 0) sink.dataEnd();
    } else if (length === 0) {
      this.#finish(sink);
    } else {
      this.#payload = Buffer.allocUnsafe(length);
      this.#payloadBytes = 0;
    }
  }

  #finish(sink: FrameSink): void {
    const payload = this.#payload;
    this.#payload = EMPTY;
    sink.frame(this.#type, this.#flags, this.#stream, this.#value, payload);
  }
}
