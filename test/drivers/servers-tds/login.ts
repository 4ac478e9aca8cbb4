// [MS-TDS] 2.2.6.4: LOGIN7.

const FIXED_BYTES = 36;
/** Pairs of offset and length in characters, in their order. */
const FIELDS = ['host', 'user', 'password', 'application', 'server'] as const;
const DATABASE_AT = 68;

/** TDS 7.2, the oldest whose tokens are spoken here, and 7.4; 8.0 is spoken only inside its own TLS (`strict`). */
const OLDEST = 0x72090002;
const NEWEST = 0x74000004;
const STRICT_VERSION = 0x08000000;

export interface Login {
  readonly tdsVersion: number;
  readonly packetBytes: number;
  readonly host: string;
  readonly user: string;
  readonly password: string;
  readonly application: string;
  /** The server's name, as the client knows it. */
  readonly server: string;
  readonly database: string;
}

const MIN_PACKET_BYTES = 512;
const MAX_PACKET_BYTES = 32767;
const DEFAULT_PACKET_BYTES = 4096;

const packetBytesOf = (wish: number): number =>
  wish === 0 ? DEFAULT_PACKET_BYTES : Math.min(Math.max(wish, MIN_PACKET_BYTES), MAX_PACKET_BYTES);

/** Undoes what LOGIN7 does to a password: halves of each byte swapped, then XOR with 0xA5. */
const reveal = (bytes: Buffer): Buffer =>
  Buffer.from(
    bytes.map((byte) => {
      const mixed = byte ^ 0xa5;
      return ((mixed & 0x0f) << 4) | (mixed >> 4);
    }),
  );

/** Throws for a version that is not spoken here and for fields outside the message. */
export const readLogin = (payload: Buffer, isStrict: boolean): Login => {
  if (payload.length < FIXED_BYTES || payload.readUInt32LE(0) !== payload.length)
    throw new Error(`a LOGIN7 of ${payload.length} bytes that says another length`);
  const asked = payload.readUInt32LE(4);
  const isKnown = asked >= OLDEST || (isStrict && asked === STRICT_VERSION);
  if (!isKnown) throw new Error(`TDS version 0x${asked.toString(16)} is not spoken here`);
  const bytesAt = (at: number): Buffer => {
    const from = payload.readUInt16LE(at);
    const bytes = payload.subarray(from, from + 2 * payload.readUInt16LE(at + 2));
    if (bytes.length !== 2 * payload.readUInt16LE(at + 2)) throw new Error('a LOGIN7 field outside of it');
    return bytes;
  };
  const text = (name: (typeof FIELDS)[number]): string => {
    const bytes = bytesAt(FIXED_BYTES + 4 * FIELDS.indexOf(name));
    return (name === 'password' ? reveal(bytes) : bytes).toString('utf16le');
  };
  return {
    tdsVersion: Math.min(asked, NEWEST),
    packetBytes: packetBytesOf(payload.readUInt32LE(8)),
    host: text('host'),
    user: text('user'),
    password: text('password'),
    application: text('application'),
    server: text('server'),
    database: bytesAt(DATABASE_AT).toString('utf16le'),
  };
};
