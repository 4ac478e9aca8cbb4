import type { Socket } from 'node:net';

// Oracle Net's packets, as far as python-oracledb's thin mode shows them (UPL 1.0 or Apache-2.0): 8 bytes of header, which
// begin with the length; that takes 2 bytes until an ACCEPT of version 315 or newer has gone by, and 4 after it.

export const CONNECT = 1;
export const ACCEPT = 2;
export const REFUSE = 4;
export const REDIRECT = 5;
export const DATA = 6;

export const HEADER_BYTES = 8;
/** What a packet may have at most here; the service data unit that is agreed on. */
export const SDU_BYTES = 8192;
/** Before what a DATA packet carries. */
export const DATA_FLAGS_BYTES = 2;
/** More than this in one packet is no client of these tests. */
const MAX_PACKET_BYTES = 64 * 1024;

export interface Packet {
  readonly type: number;
  /** Without the header. */
  readonly body: Buffer;
}

/** A connection of one client. */
export class PacketStream {
  readonly #socket: Socket;
  readonly #chunks: AsyncIterator<Buffer>;
  #left: Buffer = Buffer.alloc(0);
  /** Set once an ACCEPT has been sent. */
  largeLengths = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /** False when the client ends before. */
  async #fill(bytes: number): Promise<boolean> {
    while (this.#left.length < bytes) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return false;
      this.#left = Buffer.concat([this.#left, value]);
    }
    return true;
  }

  /** Undefined at the client's end. */
  async read(): Promise<Packet | undefined> {
    if (!(await this.#fill(HEADER_BYTES))) return undefined;
    const length = this.largeLengths ? this.#left.readUInt32BE(0) : this.#left.readUInt16BE(0);
    if (length < HEADER_BYTES || length > MAX_PACKET_BYTES) throw new Error(`a packet of ${length} bytes`);
    if (!(await this.#fill(length))) return undefined;
    const packet = { type: this.#left.readUInt8(4), body: this.#left.subarray(HEADER_BYTES, length) };
    this.#left = this.#left.subarray(length);
    return packet;
  }

  write(type: number, body: Buffer, flags = 0): void {
    const header = Buffer.alloc(HEADER_BYTES);
    if (this.largeLengths) header.writeUInt32BE(HEADER_BYTES + body.length, 0);
    else header.writeUInt16BE(HEADER_BYTES + body.length, 0);
    header.writeUInt8(type, 4);
    header.writeUInt8(flags, 5);
    this.#socket.write(Buffer.concat([header, body]));
  }

  /** As many DATA packets as it takes. */
  writeData(payload: Buffer): void {
    const room = SDU_BYTES - HEADER_BYTES - DATA_FLAGS_BYTES;
    for (let start = 0; start === 0 || start < payload.length; start += room)
      this.write(
        DATA,
        Buffer.concat([Buffer.alloc(DATA_FLAGS_BYTES), payload.subarray(start, start + room)]),
      );
  }

  end(): void {
    this.#socket.end();
  }
}
