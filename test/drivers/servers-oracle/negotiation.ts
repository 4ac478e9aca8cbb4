import type { TtcReader } from './ttc.ts';
import { TtcWriter } from './ttc.ts';

export const PROTOCOL = 1;
export const DATA_TYPES = 2;

/** Character sets: UTF-8, and UTF-16 for national texts. */
export const AL32UTF8 = 873;
const AL16UTF16 = 2000;
/** A driver of 8.1 or newer. */
const PROTOCOL_VERSION = 6;

/** What a driver asks a server for, by its place; all others are 0. */
const CAPABILITIES: Readonly<Record<number, number>> = {
  0: 6,
  1: 1,
  /** Logons: O5LOGON, also without padding, and with a key derived by PBKDF2. */
  4: 0x02 | 0x08 | 0x20,
  5: 1,
  6: 1,
  /** Fields as of 12.1. */
  7: 7,
  /** A call's end has a status and a sequence. */
  15: 1,
  16: 1,
  /** Data types have two bytes. */
  27: 1,
};
const COMPILE_TIME = Buffer.from(Array.from({ length: 41 }, (_, place) => CAPABILITIES[place] ?? 0));
const RUN_TIME = Buffer.from([2, 0, 0, 0, 0, 0, 0]);

/** The first answer, to a driver that tells its versions. */
export const protocolAnswer = (asked: TtcReader): Buffer => {
  const versions = asked.raw(asked.left);
  if (!versions.includes(PROTOCOL_VERSION)) throw new Error('a driver older than 8.1');
  const conversions = Buffer.alloc(11);
  conversions.writeUInt16BE(AL16UTF16, 9);
  return new TtcWriter()
    .bytes(PROTOCOL, PROTOCOL_VERSION, 0)
    .raw(Buffer.from('scripted\0'))
    .uint16le(AL32UTF8)
    .bytes(1)
    .uint16le(0)
    .uint16be(conversions.length)
    .raw(conversions)
    .short(COMPILE_TIME)
    .short(RUN_TIME)
    .end();
};

/** The second: every data type as the driver wants it. */
export const dataTypesAnswer = (asked: TtcReader): Buffer => {
  const charsets = asked.raw(5);
  if (charsets.readUInt16LE(0) !== AL32UTF8) throw new Error(`character set ${charsets.readUInt16LE(0)}`);
  // The driver's own capabilities.
  asked.short();
  asked.short();
  return new TtcWriter().bytes(DATA_TYPES).raw(asked.raw(asked.left)).end();
};
