// [MS-TDS] 2.2.7: what the server's messages are made of.
import type { Login } from './login.ts';
import { SERVER_VERSION } from './prelogin.ts';

/** `int`: INTN of 4 bytes; `nvarchar`: up to 4,000 characters; `nvarchar(max)`: any number, in chunks. */
export type ColumnType = 'int' | 'nvarchar' | 'nvarchar(max)';
export type Value = number | string | null;
export interface Column {
  readonly name: string;
  readonly type: ColumnType;
}

/** Of ENVCHANGE. */
const Change = {
  database: 1,
  language: 2,
  packetSize: 4,
  collation: 7,
  begun: 8,
  committed: 9,
  rolledBack: 10,
} as const;
/** Of the DONE tokens. */
export const DoneStatus = { final: 0x00, more: 0x01, error: 0x02, count: 0x10, attention: 0x20 } as const;
export const DoneToken = { done: 0xfd, inProcedure: 0xff, procedure: 0xfe } as const;

/** SQL_Latin1_General_CP1_CI_AS. */
const COLLATION = Buffer.from([0x09, 0x04, 0xd0, 0x00, 0x34]);
const NVARCHAR_BYTES = 8000;
const MAX = 0xffff;
const SERVER_NAME = 'SCRIPTED';
/** SELECT, of a DONE that counts rows. */
const SELECT = 0xc1;

const u8 = (value: number): Buffer => Buffer.from([value]);
const u16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(value);
  return bytes;
};
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const shortText = (text: string): Buffer => Buffer.concat([u8(text.length), Buffer.from(text, 'utf16le')]);
const longText = (text: string): Buffer => Buffer.concat([u16(text.length), Buffer.from(text, 'utf16le')]);

/** A token whose length in bytes stands behind its number. */
const sized = (token: number, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  return Buffer.concat([u8(token), u16(body.length), body]);
};

const changed = (what: number, now: Buffer, before: Buffer): Buffer => sized(0xe3, u8(what), now, before);
const changedText = (what: number, now: string, before: string): Buffer =>
  changed(what, shortText(now), shortText(before));

const said = (token: number, number: number, level: number, text: string): Buffer =>
  sized(token, u32(number), u8(1), u8(level), longText(text), shortText(SERVER_NAME), shortText(''), u32(1));

/** ERROR, with state 1 and line 1. */
export const error = (number: number, level: number, text: string): Buffer => said(0xaa, number, level, text);
const info = (number: number, text: string): Buffer => said(0xab, number, 10, text);

export const done = (token: number, status: number, rows = 0): Buffer =>
  Buffer.concat([u8(token), u16(status), u16((status & DoneStatus.count) === 0 ? 0 : SELECT), u64(rows)]);

export const databaseChanged = (database: string): Buffer =>
  Buffer.concat([
    changedText(Change.database, database, 'master'),
    info(5701, `Changed database context to '${database}'.`),
  ]);

/** A transaction has begun or, with 0, ended. */
export const transactionChanged = (kind: 'begun' | 'committed' | 'rolledBack', id: number): Buffer => {
  const bytes = Buffer.concat([u8(8), u64(id)]);
  return changed(Change[kind], kind === 'begun' ? bytes : u8(0), kind === 'begun' ? u8(0) : bytes);
};

export const loggedIn = ({ tdsVersion, packetBytes, database }: Login): Buffer => {
  const version = Buffer.alloc(4);
  version.writeUInt32BE(tdsVersion);
  return Buffer.concat([
    databaseChanged(database),
    changed(Change.collation, Buffer.concat([u8(COLLATION.length), COLLATION]), u8(0)),
    changedText(Change.language, 'us_english', ''),
    info(5703, 'Changed language setting to us_english.'),
    sized(0xad, u8(1), version, shortText('Microsoft SQL Server'), Buffer.from(SERVER_VERSION)),
    changedText(Change.packetSize, String(packetBytes), '4096'),
    done(DoneToken.done, DoneStatus.final),
  ]);
};

const typeInfo = (type: ColumnType): Buffer =>
  type === 'int'
    ? Buffer.from([0x26, 4])
    : Buffer.concat([u8(0xe7), u16(type === 'nvarchar' ? NVARCHAR_BYTES : MAX), COLLATION]);

/** COLMETADATA: every column may be null. */
export const metadata = (columns: readonly Column[]): Buffer =>
  Buffer.concat([
    u8(0x81),
    u16(columns.length),
    ...columns.flatMap(({ name, type }) => [u32(0), u16(1), typeInfo(type), shortText(name)]),
  ]);

const PLP_CHUNK_BYTES = 8000;
const inChunks = (bytes: Buffer): Buffer[] => {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += PLP_CHUNK_BYTES) {
    const chunk = bytes.subarray(at, at + PLP_CHUNK_BYTES);
    chunks.push(u32(chunk.length), chunk);
  }
  return [u64(bytes.length), ...chunks, u32(0)];
};

const cell = (type: ColumnType, value: Value): Buffer[] => {
  if (type === 'int') {
    if (value === null) return [u8(0)];
    const bytes = Buffer.alloc(5);
    bytes.writeUInt8(4, 0);
    bytes.writeInt32LE(Number(value), 1);
    return [bytes];
  }
  if (value === null) return [type === 'nvarchar' ? u16(MAX) : Buffer.alloc(8, 0xff)];
  const bytes = Buffer.from(String(value), 'utf16le');
  return type === 'nvarchar' ? [u16(bytes.length), bytes] : inChunks(bytes);
};

export const row = (columns: readonly Column[], values: readonly Value[]): Buffer =>
  Buffer.concat([u8(0xd1), ...columns.flatMap(({ type }, index) => cell(type, values[index] ?? null))]);

export const returnStatus = (status: number): Buffer => Buffer.concat([u8(0x79), u32(status)]);

/** RETURNVALUE: an output parameter of type int. */
export const returnInt = (name: string, value: number): Buffer =>
  Buffer.concat([
    u8(0xac),
    u16(0),
    shortText(name),
    u8(1),
    u32(0),
    u16(0),
    typeInfo('int'),
    ...cell('int', value),
  ]);
