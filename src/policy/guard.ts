import { networkInterfaces } from 'node:os';
import { addressText, isMapped, NAME_RANGE, withoutZone } from '../runtime/index.ts';
import { addressBytes, normalizeAddress } from './address.ts';
import { type AddressRange, isInRange, parseRange } from './address-range.ts';

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

/** What an installation allows or forbids beyond the fixed ranges. */
export interface GuardSettings {
  /** Loopback targets are refused except at these ports. */
  readonly allowLoopbackPorts: ReadonlySet<number>;
  /** Sallyport's own listeners on this host; an unspecified address stands for every local address. */
  readonly ownListeners: readonly Endpoint[];
  /** Where this agent writes its audit events. */
  readonly auditDatabase?: readonly Endpoint[];
  readonly allowAuditDatabase: boolean;
}

export type GuardVerdict =
  | { readonly ok: true }
  | { readonly ok: false; readonly code: 'guard_denied' | 'loop'; readonly detail: GuardDetail };

/** Which rule of the guard refused. */
export type GuardDetail =
  | 'unspecified'
  | 'link_local'
  | 'cloud_metadata'
  | 'multicast'
  | 'broadcast'
  | 'ipv4_mapped'
  | 'embedded_ipv4'
  | 'loopback'
  | 'own_listener'
  | 'audit_database'
  | 'not_an_address';

interface Range extends AddressRange {
  readonly detail: GuardDetail;
}

const range = (cidr: string, detail: GuardDetail): Range => ({ ...parseRange(cidr), detail });

/** Never a target. Link-local holds 169.254.169.254; the others are the metadata services of two clouds. */
const REFUSED: readonly Range[] = [
  range('0.0.0.0/8', 'unspecified'),
  range('169.254.169.254/32', 'cloud_metadata'),
  range('169.254.0.0/16', 'link_local'),
  range('168.63.129.16/32', 'cloud_metadata'),
  range('100.100.100.200/32', 'cloud_metadata'),
  range('224.0.0.0/4', 'multicast'),
  range('240.0.0.0/4', 'broadcast'),
  range('::/128', 'unspecified'),
  range('fe80::/10', 'link_local'),
  range('fd00:ec2::254/128', 'cloud_metadata'),
  range('ff00::/8', 'multicast'),
];

/** Loopback addresses at which only gateways listen; also those of others: allow_loopback does not open them. */
const TRANSPARENT_NAMES = range(NAME_RANGE, 'own_listener');

const LOOPBACK: readonly Range[] = [range('127.0.0.0/8', 'loopback'), range('::1/128', 'loopback')];

/**
 * IPv6 forms that carry an IPv4 address, and where: 6to4 (RFC 3056), NAT64 (RFC 6052 §2.2, RFC 8215: the
 * local-use prefix may be divided at any of the lengths), IPv4-compatible and translated (RFC 4291, RFC 2765).
 * `u` octet positions are skipped as RFC 6052 says.
 */
const EMBEDDING: readonly { readonly within: Range; readonly at: readonly (readonly number[])[] }[] = [
  { within: range('2002::/16', 'embedded_ipv4'), at: [[2, 3, 4, 5]] },
  { within: range('64:ff9b::/96', 'embedded_ipv4'), at: [[12, 13, 14, 15]] },
  {
    within: range('64:ff9b:1::/48', 'embedded_ipv4'),
    at: [
      [6, 7, 9, 10],
      [7, 9, 10, 11],
      [9, 10, 11, 12],
      [12, 13, 14, 15],
    ],
  },
  { within: range('::/96', 'embedded_ipv4'), at: [[12, 13, 14, 15]] },
  { within: range('::ffff:0:0:0/96', 'embedded_ipv4'), at: [[12, 13, 14, 15]] },
];

const isUnspecified = (address: string): boolean => address === '0.0.0.0' || address === '::';
const isLoopback = (bytes: readonly number[]): boolean => LOOPBACK.some((entry) => isInRange(bytes, entry));

const isLocalAddress = (address: string, bytes: readonly number[]): boolean =>
  isLoopback(bytes) ||
  Object.values(networkInterfaces()).some((entries) =>
    entries?.some((entry) => normalizeAddress(entry.address) === address),
  );

/** A listener named by host name could be any local address. */
const endpointAddress = (text: string): string => {
  try {
    return normalizeAddress(text);
  } catch {
    return '::';
  }
};

const isEndpoint = (address: string, bytes: readonly number[], port: number, endpoint: Endpoint): boolean => {
  if (endpoint.port !== port) return false;
  const own = endpointAddress(endpoint.address);
  return own === address || (isUnspecified(own) && isLocalAddress(address, bytes));
};

const refuse = (code: 'guard_denied' | 'loop', detail: GuardDetail): GuardVerdict => ({
  ok: false,
  code,
  detail,
});

const guardPlain = (bytes: readonly number[], port: number, settings: GuardSettings): GuardVerdict => {
  const address = addressText(bytes);
  const refused = REFUSED.find((entry) => isInRange(bytes, entry));
  if (refused !== undefined) return refuse('guard_denied', refused.detail);
  if (
    isInRange(bytes, TRANSPARENT_NAMES) ||
    settings.ownListeners.some((listener) => isEndpoint(address, bytes, port, listener))
  ) {
    return refuse('loop', 'own_listener');
  }
  const audit = settings.auditDatabase ?? [];
  if (!settings.allowAuditDatabase && audit.some((database) => isEndpoint(address, bytes, port, database))) {
    return refuse('guard_denied', 'audit_database');
  }
  if (isLoopback(bytes) && !settings.allowLoopbackPorts.has(port)) return refuse('guard_denied', 'loopback');
  return { ok: true };
};

/** An embedded address is refused wherever the plain one would be; loopback has no exception in this form. */
const guardEmbedded = (bytes: readonly number[], port: number, settings: GuardSettings): boolean =>
  EMBEDDING.filter(({ within }) => isInRange(bytes, within)).some(({ at }) =>
    at.some((positions) => {
      const plain = positions.map((position) => bytes[position] ?? 0);
      return !guardPlain(plain, port, { ...settings, allowLoopbackPorts: new Set() }).ok;
    }),
  );

/**
 * Whether an address may be dialled at all. It runs around the engine and again right before connect, because
 * a guard written in Rego can be overridden by any file that declares its package. An IPv4-mapped form is
 * refused here: callers normalise first.
 */
export const guardAddress = (address: string, port: number, settings: GuardSettings): GuardVerdict => {
  let bytes: readonly number[];
  try {
    bytes = addressBytes(withoutZone(address));
  } catch {
    return refuse('guard_denied', 'not_an_address');
  }
  if (isMapped(bytes)) return refuse('guard_denied', 'ipv4_mapped');
  const plain = guardPlain(bytes, port, settings);
  if (!plain.ok) return plain;
  if (isLoopback(bytes)) return plain;
  return guardEmbedded(bytes, port, settings) ? refuse('guard_denied', 'embedded_ipv4') : plain;
};
