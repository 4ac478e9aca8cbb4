// [MS-TDS] 2.2.6.6 to 2.2.6.9: what a client asks after its login.
import type { Value } from './tokens.ts';

/** Procedures that have a number, as far as drivers run statements with them. */
const PROCEDURES: Readonly<Record<number, string>> = {
  10: 'sp_executesql',
  11: 'sp_prepare',
  12: 'sp_execute',
  13: 'sp_prepexec',
  15: 'sp_unprepare',
};

export interface Parameter {
  /** With its `@`; empty for one that is told by its place. */
  readonly name: string;
  readonly value: Value;
}

export interface ProcedureCall {
  readonly procedure: string;
  readonly parameters: readonly Parameter[];
}

const afterHeaders = (payload: Buffer): Buffer => payload.subarray(payload.readUInt32LE(0));

export const readBatch = (payload: Buffer): string => afterHeaders(payload).toString('utf16le');

/** Transaction manager requests that drivers send. */
const TRANSACTIONS: Readonly<Record<number, 'begun' | 'committed' | 'rolledBack'>> = {
  5: 'begun',
  7: 'committed',
  8: 'rolledBack',
};
const BEGIN_AFTERWARDS = 0x01;

/** What a transaction manager request does, in order: a commit may ask for the next transaction at once. */
export const readTransaction = (payload: Buffer): ('begun' | 'committed' | 'rolledBack')[] => {
  const rest = afterHeaders(payload);
  const kind = TRANSACTIONS[rest.readUInt16LE(0)];
  if (kind === undefined) throw new Error(`a transaction manager request ${rest.readUInt16LE(0)}`);
  if (kind === 'begun') return [kind];
  const nameBytes = rest.readUInt8(2);
  return ((rest[3 + nameBytes] ?? 0) & BEGIN_AFTERWARDS) === 0 ? [kind] : [kind, 'begun'];
};

const NULL_SHORT = 0xffff;
const NULL_LONG = 0xffffffff;
const NULL_CHUNKS = 0xffffffffffffffffn;
const COLLATION_BYTES = 5;

class Cursor {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  take(count: number): Buffer {
    const bytes = this.#bytes.subarray(this.#at, this.#at + count);
    if (bytes.length !== count) throw new Error(`a request that ends ${count - bytes.length} bytes early`);
    this.#at += count;
    return bytes;
  }

  u8 = (): number => this.take(1).readUInt8();
  u16 = (): number => this.take(2).readUInt16LE();
  u32 = (): number => this.take(4).readUInt32LE();
  text = (characters: number): string => this.take(2 * characters).toString('utf16le');

  /** A value in chunks (PLP), of which the length may be unknown beforehand. */
  chunks(): Buffer | null {
    if (this.take(8).readBigUInt64LE() === NULL_CHUNKS) return null;
    const parts: Buffer[] = [];
    for (let length = this.u32(); length !== 0; length = this.u32()) parts.push(this.take(length));
    return Buffer.concat(parts);
  }
}

const readShort = (from: Cursor): Buffer | null => {
  const room = from.u16();
  from.take(COLLATION_BYTES);
  if (room === NULL_SHORT) return from.chunks();
  const length = from.u16();
  return length === NULL_SHORT ? null : from.take(length);
};

const readInteger = (from: Cursor): number | null => {
  const length = from.u8();
  return length === 0 ? null : from.take(length).readIntLE(0, Math.min(length, 6));
};

const decode = (bytes: Buffer | null, encoding: BufferEncoding): string | null =>
  bytes === null ? null : bytes.toString(encoding);

/** TYPE_INFO and value, by the number of the type. */
const READERS: Readonly<Record<number, (from: Cursor) => Value>> = {
  // INTN and BITN
  0x26: (from) => (from.u8(), readInteger(from)),
  0x68: (from) => (from.u8(), readInteger(from)),
  // TINYINT, SMALLINT, INT
  0x30: (from) => from.u8(),
  0x34: (from) => from.take(2).readInt16LE(),
  0x38: (from) => from.take(4).readInt32LE(),
  // NVARCHAR, NCHAR, VARCHAR, CHAR
  0xe7: (from) => decode(readShort(from), 'utf16le'),
  0xef: (from) => decode(readShort(from), 'utf16le'),
  0xa7: (from) => decode(readShort(from), 'latin1'),
  0xaf: (from) => decode(readShort(from), 'latin1'),
  // NTEXT
  0x63: (from) => {
    from.take(4 + COLLATION_BYTES);
    const length = from.u32();
    return length === NULL_LONG ? null : from.take(length).toString('utf16le');
  },
};

const readParameter = (from: Cursor): Parameter => {
  const name = from.text(from.u8());
  from.u8();
  const type = from.u8();
  const read = READERS[type];
  if (read === undefined) throw new Error(`parameter ${name || '?'} is of type 0x${type.toString(16)}`);
  return { name, value: read(from) };
};

/** One call; throws for several in one message and for parameters of other types than integers and text. */
export const readCall = (payload: Buffer): ProcedureCall => {
  const from = new Cursor(afterHeaders(payload));
  const characters = from.u16();
  const procedure = characters === NULL_SHORT ? PROCEDURES[from.u16()] : from.text(characters);
  if (procedure === undefined) throw new Error('a call of a procedure by an unknown number');
  from.u16();
  const parameters: Parameter[] = [];
  while (!from.isAtEnd) parameters.push(readParameter(from));
  return { procedure: procedure.toLowerCase().replace(/^(sys\.|dbo\.)+/, ''), parameters };
};
