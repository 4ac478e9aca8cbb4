import { addressText } from '../../runtime/index.ts';
import { SOCKS_REPLY, type SocksReply } from './stream-answers.ts';

const VERSION = 5;
/** Of the username/password negotiation (RFC 1929 §2). */
const LOGIN_VERSION = 1;

/** Methods of RFC 1928 §3. */
export const METHOD = { none: 0x00, password: 0x02, unacceptable: 0xff } as const;
export const CONNECT = 0x01;
const BIND = 0x02;
const ASSOCIATE = 0x03;
const ADDRESS_TYPE = { ipv4: 0x01, domain: 0x03, ipv6: 0x04 } as const;

const IPV4_BYTES = 4;
const IPV6_BYTES = 16;
const PORT_BYTES = 2;

/** What the first bytes of a message are. */
export type Reading<T> =
  | { readonly kind: 'more' }
  | { readonly kind: 'message'; readonly consumedBytes: number; readonly message: T }
  /** `reply` is what the client is told; undefined when it does not speak the protocol. */
  | { readonly kind: 'invalid'; readonly detail: string; readonly reply: SocksReply | undefined };

const MORE = { kind: 'more' } as const;

const invalid = (
  detail: string,
  reply?: SocksReply,
): { readonly kind: 'invalid'; readonly detail: string; readonly reply: SocksReply | undefined } => ({
  kind: 'invalid',
  detail,
  reply,
});

const hex = (byte: number): string => `0x${byte.toString(16).padStart(2, '0')}`;

/** The client's greeting: the methods that it offers (RFC 1928 §3). At most 257 bytes. */
export const readGreeting = (bytes: Buffer): Reading<readonly number[]> => {
  const [version, count] = bytes;
  if (version === undefined) return MORE;
  if (version !== VERSION) return invalid(`first byte ${hex(version)} is not SOCKS version 5`);
  if (count === undefined || bytes.length < 2 + count) return MORE;
  return { kind: 'message', consumedBytes: 2 + count, message: [...bytes.subarray(2, 2 + count)] };
};

/** Name and password (RFC 1929 §2). At most 513 bytes. */
export const readLogin = (bytes: Buffer): Reading<{ readonly name: Buffer; readonly password: Buffer }> => {
  const [version, nameBytes] = bytes;
  if (version === undefined) return MORE;
  if (version !== LOGIN_VERSION) return invalid(`login version ${hex(version)} is not 0x01`);
  if (nameBytes === undefined) return MORE;
  const passwordAt = 2 + nameBytes + 1;
  const passwordBytes = bytes[passwordAt - 1];
  if (passwordBytes === undefined || bytes.length < passwordAt + passwordBytes) return MORE;
  const message = {
    name: Buffer.from(bytes.subarray(2, 2 + nameBytes)),
    password: Buffer.from(bytes.subarray(passwordAt, passwordAt + passwordBytes)),
  };
  return { kind: 'message', consumedBytes: passwordAt + passwordBytes, message };
};

export interface SocksRequest {
  readonly command: number;
  /** As the client wrote it: a name, or the text of an address. */
  readonly host: string;
  readonly port: number;
}

const names = new TextDecoder('utf-8', { fatal: true });

const hostOf = (type: number, bytes: Buffer): string | undefined => {
  if (type !== ADDRESS_TYPE.domain) return addressText([...bytes]);
  try {
    return names.decode(bytes);
  } catch {
    return undefined; // not UTF-8
  }
};

/** What the client asks for (RFC 1928 §4). At most 262 bytes. */
export const readRequest = (bytes: Buffer): Reading<SocksRequest> => {
  const [version, command, reserved, type, nameBytes] = bytes;
  if (version !== undefined && version !== VERSION)
    return invalid(`request version ${hex(version)} is not 5`, SOCKS_REPLY.general);
  if (command === undefined || reserved === undefined || type === undefined) return MORE;
  if (reserved !== 0) return invalid(`reserved byte ${hex(reserved)} is not 0`, SOCKS_REPLY.general);
  let hostAt = 4;
  let hostBytes: number | undefined;
  if (type === ADDRESS_TYPE.ipv4) hostBytes = IPV4_BYTES;
  else if (type === ADDRESS_TYPE.ipv6) hostBytes = IPV6_BYTES;
  else if (type === ADDRESS_TYPE.domain) {
    hostAt = 5;
    hostBytes = nameBytes;
  } else return invalid(`address type ${hex(type)}`, SOCKS_REPLY.addressTypeNotSupported);
  if (hostBytes === undefined || bytes.length < hostAt + hostBytes + PORT_BYTES) return MORE;
  const portAt = hostAt + hostBytes;
  const host = hostOf(type, bytes.subarray(hostAt, portAt));
  if (host === undefined) return invalid('the name of the host is not UTF-8', SOCKS_REPLY.general);
  const message = { command, host, port: bytes.readUInt16BE(portAt) };
  return { kind: 'message', consumedBytes: portAt + PORT_BYTES, message };
};

const COMMANDS: ReadonlyMap<number, string> = new Map([
  [CONNECT, 'CONNECT'],
  [BIND, 'BIND'],
  [ASSOCIATE, 'UDP ASSOCIATE'],
]);

/** For logs. */
export const commandText = (command: number): string => COMMANDS.get(command) ?? hex(command);

/** Which method is used from now on. */
export const methodAnswer = (method: number): Buffer => Buffer.from([VERSION, method]);

/** Whether name and password are right. */
export const loginAnswer = (isRight: boolean): Buffer => Buffer.from([LOGIN_VERSION, isRight ? 0 : 1]);

/** The reply to a request. The address at which the agent reaches the target is nobody's business: all zero. */
export const requestAnswer = (reply: SocksReply): Buffer =>
  Buffer.from([VERSION, reply, 0, ADDRESS_TYPE.ipv4, 0, 0, 0, 0, 0, 0]);
