import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { addressText, parseAddress, unmapped } from '../../runtime/index.ts';

/** Longest host name (RFC 1035 §2.3.4). */
const MAX_HOST_LENGTH = 253;
const NAME = /^[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?$/;
const ASCII = /^[\x21-\x7e]+$/;

const nameOf = (text: string): string | undefined => {
  const bare = text.endsWith('.') ? text.slice(0, -1) : text;
  // An ASCII name is taken as it is: the conversion would read `0x7f.1` as an address.
  const ascii = ASCII.test(bare) ? bare.toLowerCase() : domainToASCII(bare);
  const isName = ascii.length <= MAX_HOST_LENGTH && NAME.test(ascii) && isIP(ascii) === 0;
  return isName ? ascii : undefined;
};

/**
 * The one form in which an entrance compares hosts: addresses in canonical form (IPv4-mapped as IPv4, RFC 5952), names
 * in lower case without the dot at their end, labels beyond ASCII as A-labels; undefined for what is neither. No name
 * becomes an address: `127.1` and digits of other scripts stay names or are none.
 *
 * @param text without the brackets of IPv6
 */
export const canonicalHost = (text: string): string | undefined => {
  const address = parseAddress(text);
  return address === undefined ? nameOf(text) : addressText(unmapped(address));
};

const TARGET = /^(?:\[(?<bracketed>[^\]]*)\]|(?<plain>[^:[\]]*)):(?<port>\d{1,5})$/;
const MAX_PORT = 65_535;

export interface Target {
  readonly host: string;
  readonly port: number;
}

/** Reads `HOST:PORT`, IPv6 in brackets, its host in canonical form; undefined for anything else. */
export const parseTarget = (text: string): Target | undefined => {
  const { bracketed, plain, port } = TARGET.exec(text)?.groups ?? {};
  // Brackets hold IPv6 and nothing else.
  if (bracketed?.includes(':') === false) return undefined;
  const host = canonicalHost(bracketed ?? plain ?? '');
  if (host === undefined || Number(port) > MAX_PORT) return undefined;
  return { host, port: Number(port) };
};
