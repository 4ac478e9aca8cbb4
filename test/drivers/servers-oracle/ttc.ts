// The values in the messages of Oracle's two-task protocol, which DATA packets carry.

/** A text of more bytes than this comes in pieces. */
const MAX_SHORT_BYTES = 252;
const IN_PIECES = 0xfe;
const NULL_LENGTH = 0xff;

/** Writes one message after the other. */
export class TtcWriter {
  readonly #parts: Buffer[] = [];

  bytes(...values: readonly number[]): this {
    return this.raw(Buffer.from(values));
  }

  raw(value: Buffer): this {
    this.#parts.push(value);
    return this;
  }

  uint16be(value: number): this {
    const part = Buffer.alloc(2);
    part.writeUInt16BE(value);
    return this.raw(part);
  }

  uint16le(value: number): this {
    const part = Buffer.alloc(2);
    part.writeUInt16LE(value);
    return this.raw(part);
  }

  /** As many bytes as it takes, after their number; 0 to 2^32 - 1. */
  number(value: number): this {
    const whole = Buffer.alloc(4);
    whole.writeUInt32BE(value);
    const digits = whole.subarray(whole.findIndex((byte) => byte !== 0));
    return value === 0 ? this.bytes(0) : this.bytes(digits.length).raw(digits);
  }

  /** Bytes after their length, of at most 252. */
  short(value: Buffer): this {
    if (value.length > MAX_SHORT_BYTES)
      throw new Error(`${value.length} bytes, more than ${MAX_SHORT_BYTES}`);
    return this.bytes(value.length).raw(value);
  }

  text(value: string): this {
    return this.short(Buffer.from(value));
  }

  /** With a number before it that says whether it is there. */
  optionalText(value: string): this {
    this.number(Buffer.byteLength(value));
    return value === '' ? this : this.text(value);
  }

  pair(key: string, value: string, flags = 0): this {
    return this.optionalText(key).optionalText(value).number(flags);
  }

  end(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** Reads the messages of one client; throws where they end too early. */
export class TtcReader {
  #at = 0;
  readonly #message: Buffer;

  constructor(message: Buffer) {
    this.#message = message;
  }

  get left(): number {
    return this.#message.length - this.#at;
  }

  raw(bytes: number): Buffer {
    if (bytes > this.left) throw new Error(`${bytes} bytes asked of ${this.left}`);
    this.#at += bytes;
    return this.#message.subarray(this.#at - bytes, this.#at);
  }

  byte(): number {
    return this.raw(1).readUInt8();
  }

  uint16be(): number {
    return this.raw(2).readUInt16BE();
  }

  /** Of at most 4 bytes. */
  number(): number {
    const digits = this.raw(this.byte());
    return digits.length === 0 ? 0 : digits.readUIntBE(0, digits.length);
  }

  /** What comes after its length, whole or in pieces. */
  short(): Buffer {
    const length = this.byte();
    if (length === NULL_LENGTH) return Buffer.alloc(0);
    if (length !== IN_PIECES) return this.raw(length);
    const pieces: Buffer[] = [];
    for (let piece = this.number(); piece !== 0; piece = this.number()) pieces.push(this.raw(piece));
    return Buffer.concat(pieces);
  }

  pair(): readonly [key: string, value: string] {
    const [key, value] = [0, 1].map(() => (this.number() === 0 ? '' : this.short().toString('utf8')));
    this.number();
    return [key ?? '', value ?? ''];
  }
}
