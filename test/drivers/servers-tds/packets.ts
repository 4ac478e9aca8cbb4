// [MS-TDS] 2.2.3: messages in packets.

export const PacketType = {
  batch: 0x01,
  rpc: 0x03,
  response: 0x04,
  attention: 0x06,
  transaction: 0x0e,
  login: 0x10,
  /** Also what carries a TLS handshake. */
  prelogin: 0x12,
} as const;

export const HEADER_BYTES = 8;
/** Until a login agrees on another. */
export const FIRST_PACKET_BYTES = 4096;
/** Of a client's message; the largest of these tests has some KiB. */
const MAX_MESSAGE_BYTES = 1024 * 1024;
const END_OF_MESSAGE = 0x01;

export interface Message {
  readonly type: number;
  readonly payload: Buffer;
}

/** Makes packets of at most `packetBytes` of a payload. Only the last of a message may be marked as its end. */
export const toPackets = (type: number, payload: Buffer, packetBytes: number, isEnd: boolean): Buffer => {
  const room = packetBytes - HEADER_BYTES;
  const parts: Buffer[] = [];
  let id = 1;
  for (let at = 0; at < payload.length || at === 0; at += room, id++) {
    const part = payload.subarray(at, at + room);
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUInt8(type, 0);
    header.writeUInt8(isEnd && at + room >= payload.length ? END_OF_MESSAGE : 0, 1);
    header.writeUInt16BE(HEADER_BYTES + part.length, 2);
    header.writeUInt8(id % 256, 6);
    parts.push(header, part);
  }
  return Buffer.concat(parts);
};

/** Puts bytes together to messages, in order. */
export class MessageReader {
  readonly #onMessage: (message: Message) => void;
  #bytes: Buffer = Buffer.alloc(0);
  #parts: Buffer[] = [];
  #messageBytes = 0;

  constructor(onMessage: (message: Message) => void) {
    this.#onMessage = onMessage;
  }

  /** Throws when the bytes are no packets or a message is over 1 MiB. */
  feed(chunk: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    while (this.#bytes.length >= HEADER_BYTES) {
      const length = this.#bytes.readUInt16BE(2);
      if (length < HEADER_BYTES) throw new Error(`a TDS packet of ${length} bytes`);
      if (this.#bytes.length < length) return;
      const [type, status] = [this.#bytes.readUInt8(0), this.#bytes.readUInt8(1)];
      this.#parts.push(this.#bytes.subarray(HEADER_BYTES, length));
      this.#messageBytes += length;
      if (this.#messageBytes > MAX_MESSAGE_BYTES)
        throw new Error(`a TDS message over ${MAX_MESSAGE_BYTES} bytes`);
      this.#bytes = this.#bytes.subarray(length);
      if ((status & END_OF_MESSAGE) === 0) continue;
      const payload = Buffer.concat(this.#parts);
      this.#parts = [];
      this.#messageBytes = 0;
      this.#onMessage({ type, payload });
    }
  }
}
