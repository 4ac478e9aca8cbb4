// [MS-TDS] 2.2.6.5: what both sides say before anything else, and which encryption comes of it.

const VERSION = 0x00;
const ENCRYPTION = 0x01;
const TERMINATOR = 0xff;
const ENTRY_BYTES = 5;

export const Encryption = { off: 0x00, on: 0x01, notSupported: 0x02, required: 0x03 } as const;

/** SQL Server 2022. */
export const SERVER_VERSION = [16, 0, 0x10, 0x00] as const;

/**
 * `supported`: as the client wishes. `required`: all of it, or no login. `none`: a server without a certificate.
 */
export type EncryptionSetting = 'supported' | 'required' | 'none';

/** The client's value of ENCRYPTION; throws when there is none. */
export const readEncryption = (payload: Buffer): number => {
  for (let at = 0; at < payload.length && payload[at] !== TERMINATOR; at += ENTRY_BYTES) {
    if (payload[at] === ENCRYPTION) return payload.readUInt8(payload.readUInt16BE(at + 1));
  }
  throw new Error('a PRELOGIN without ENCRYPTION');
};

/** The server's answer to the client's value, from the table of 2.2.6.5. */
export const chooseEncryption = (client: number, setting: EncryptionSetting): number => {
  if (setting === 'none') return Encryption.notSupported;
  if (client === Encryption.on || client === Encryption.required) return Encryption.on;
  if (setting === 'required') return Encryption.required;
  return client === Encryption.off ? Encryption.off : Encryption.notSupported;
};

export const preloginAnswer = (encryption: number): Buffer => {
  const version = Buffer.from([...SERVER_VERSION, 0, 0]);
  const table = Buffer.alloc(2 * ENTRY_BYTES + 1);
  table.writeUInt8(VERSION, 0);
  table.writeUInt16BE(table.length, 1);
  table.writeUInt16BE(version.length, 3);
  table.writeUInt8(ENCRYPTION, ENTRY_BYTES);
  table.writeUInt16BE(table.length + version.length, ENTRY_BYTES + 1);
  table.writeUInt16BE(1, ENTRY_BYTES + 3);
  table.writeUInt8(TERMINATOR, 2 * ENTRY_BYTES);
  return Buffer.concat([table, version, Buffer.from([encryption])]);
};
