/** The most a ClientHello may take, record headers included. */
export const MAX_CLIENT_HELLO_BYTES = 16 * 1024;

/** A ClientHello may be split over this many records; TLS libraries use one, some middleboxes' victims a few. */
export const MAX_CLIENT_HELLO_RECORDS = 64;

const RECORD_HEADER_BYTES = 5;
const HANDSHAKE_HEADER_BYTES = 4;
const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const ALPN_EXTENSION = 16;
/** legacy_version and random (RFC 8446 §4.1.2). */
const FIXED_BYTES = 2 + 32;

export type ClientHelloReading =
  | { readonly kind: 'more' }
  | { readonly kind: 'hello'; readonly firstProtocol: string | undefined }
  | { readonly kind: 'invalid'; readonly detail: string };

/** Walks the fields of one message; every read beyond its end is a RangeError. */
class Cursor {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at = 0) {
    this.#bytes = bytes;
    this.#at = at;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    this.#at += 1;
    return this.#bytes.readUInt8(this.#at - 1);
  }

  u16(): number {
    this.#at += 2;
    return this.#bytes.readUInt16BE(this.#at - 2);
  }

  take(lengthBytes: number): Buffer {
    if (lengthBytes > this.left) throw new RangeError('beyond the end');
    this.#at += lengthBytes;
    return this.#bytes.subarray(this.#at - lengthBytes, this.#at);
  }
}

const firstProtocolOf = (body: Buffer): string | undefined => {
  const cursor = new Cursor(body);
  cursor.take(FIXED_BYTES);
  cursor.take(cursor.u8()); // legacy_session_id
  cursor.take(cursor.u16()); // cipher_suites
  cursor.take(cursor.u8()); // legacy_compression_methods
  if (cursor.left === 0) return undefined;
  const extensions = new Cursor(cursor.take(cursor.u16()));
  while (extensions.left > 0) {
    const type = extensions.u16();
    const content = extensions.take(extensions.u16());
    if (type !== ALPN_EXTENSION) continue;
    const list = new Cursor(content);
    const names = new Cursor(list.take(list.u16()));
    if (names.left === 0) return undefined;
    return names.take(names.u8()).toString('latin1');
  }
  return undefined;
};

/**
 * Reads a TLS ClientHello (RFC 8446 §4.1.2) from the first bytes of a connection, over any number of records and
 * segments, for its first ALPN entry (RFC 7301 §3.1). Nothing else of it is judged: TLS itself does that.
 *
 * @param bytes everything received so far; not kept.
 */
export const readClientHello = (bytes: Buffer): ClientHelloReading => {
  const invalid = (detail: string): ClientHelloReading => ({ kind: 'invalid', detail });
  const more = (): ClientHelloReading =>
    bytes.length >= MAX_CLIENT_HELLO_BYTES
      ? invalid(`client hello is longer than ${MAX_CLIENT_HELLO_BYTES} bytes`)
      : { kind: 'more' };
  const pieces: Buffer[] = [];
  let collected = 0;
  let at = 0;
  while (at < bytes.length) {
    if (bytes[at] !== HANDSHAKE_RECORD) return invalid(`record of type ${bytes[at] ?? 0}, not a handshake`);
    if (at + 1 < bytes.length && bytes[at + 1] !== 3) return invalid('not a TLS record version');
    if (at + RECORD_HEADER_BYTES > bytes.length) return more();
    const lengthBytes = bytes.readUInt16BE(at + 3);
    if (lengthBytes === 0) return invalid('empty handshake record');
    if (pieces.length === MAX_CLIENT_HELLO_RECORDS) {
      return invalid(`client hello over more than ${MAX_CLIENT_HELLO_RECORDS} records`);
    }
    const from = at + RECORD_HEADER_BYTES;
    const piece = bytes.subarray(from, Math.min(from + lengthBytes, bytes.length));
    pieces.push(piece);
    collected += piece.length;
    at = from + lengthBytes;
    if (collected < HANDSHAKE_HEADER_BYTES) continue;
    const message = pieces.length === 1 ? piece : Buffer.concat(pieces, collected);
    if (message[0] !== CLIENT_HELLO)
      return invalid(`handshake message ${message[0] ?? 0}, not a client hello`);
    const needed = HANDSHAKE_HEADER_BYTES + message.readUIntBE(1, 3);
    if (needed > MAX_CLIENT_HELLO_BYTES) {
      return invalid(`client hello of ${needed} bytes is longer than ${MAX_CLIENT_HELLO_BYTES}`);
    }
    if (collected < needed) continue;
    try {
      return {
        kind: 'hello',
        firstProtocol: firstProtocolOf(message.subarray(HANDSHAKE_HEADER_BYTES, needed)),
      };
    } catch (thrown) {
      if (thrown instanceof RangeError) return invalid('client hello with a length beyond its end');
      throw thrown;
    }
  }
  return more();
};
