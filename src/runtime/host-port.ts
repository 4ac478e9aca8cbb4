import { isIPv6 } from 'node:net';
import { AppError } from './errors.ts';

/** Codes of reading configuration, addresses and status listeners. */
export type RuntimeErrorCode =
  | 'ERR_CONFIG_INVALID'
  | 'ERR_CONFIG_UNREADABLE'
  | 'ERR_CONFIG_HOST_PORT'
  | 'ERR_LISTEN_REFUSED';

export interface HostPort {
  /** Name or address, without the brackets of IPv6, lower case. */
  readonly host: string;
  /** 0 to 65535; 0 asks a listener for a free port. */
  readonly port: number;
}

const MAX_PORT = 65_535;
/** Longest host name (RFC 1035 §2.3.4). */
const MAX_HOST_LENGTH = 253;
const NAME = /^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?$/i;
const SPLIT = /^(?:\[(?<bracketed>[^\]]*)\]|(?<plain>[^:]*)):(?<port>\d{1,5})$/;

const refuse = (text: string, why: string): never => {
  throw new AppError(
    'ERR_CONFIG_HOST_PORT',
    `${JSON.stringify(text.slice(0, 300))} is not HOST:PORT: ${why}`,
  );
};

/**
 * Reads `HOST:PORT`, IPv6 addresses in brackets (`[::1]:5432`).
 * @throws AppError ERR_CONFIG_HOST_PORT
 */
export const parseHostPort = (text: string): HostPort => {
  const parts = SPLIT.exec(text.trim())?.groups;
  if (parts === undefined) return refuse(text, 'write name:port, 10.0.0.1:port or [::1]:port');
  const port = Number(parts['port']);
  if (port > MAX_PORT) return refuse(text, `a port is at most ${MAX_PORT}`);
  const { bracketed, plain } = parts;
  if (bracketed !== undefined) {
    if (!isIPv6(bracketed)) return refuse(text, 'the brackets hold no IPv6 address');
    return { host: bracketed.toLowerCase(), port };
  }
  const host = (plain ?? '').toLowerCase();
  if (host === '') return refuse(text, 'the host is missing');
  if (host.length > MAX_HOST_LENGTH)
    return refuse(text, `a host name has at most ${MAX_HOST_LENGTH} characters`);
  if (!NAME.test(host)) return refuse(text, 'the host is neither a name nor an address');
  return { host, port };
};

/** `HOST:PORT` with brackets where IPv6 needs them. */
export const formatHostPort = (address: HostPort): string =>
  address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;

/** IPv4-mapped IPv6 addresses in their plain form. */
export const plainAddress = (address: string | undefined): string | undefined =>
  address?.startsWith('::ffff:') === true && address.includes('.') ? address.slice(7) : address;
