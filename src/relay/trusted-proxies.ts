import { addressText, canonicalAddress, isMapped, parseAddress } from '../runtime/index.ts';

/** How a trusted proxy tells whom it speaks for. Never guessed: a client could say it in the proxy's place. */
export const PROXY_SENDS = ['x_forwarded_for', 'proxy_protocol', 'nothing'] as const;
export type ProxySends = (typeof PROXY_SENDS)[number];

/** A proxy of relay.yaml: `ADDRESS` or `ADDRESS/PREFIX`; alone it means `x_forwarded_for`. */
export type TrustedProxy = string | { readonly address: string; readonly sends: ProxySends };

/** Entries of one configuration. */
export const MAX_TRUSTED_PROXIES = 256;

interface Range {
  readonly bytes: readonly number[];
  readonly prefixBits: number;
}

const BITS_OF_BYTE = 8;
const MAPPED_BITS = 96;
const FORM = /^([^/]+)(?:\/(\d{1,3}))?$/;

const hasSamePrefix = (left: readonly number[], right: readonly number[], prefixBits: number): boolean => {
  if (left.length !== right.length) return false;
  const whole = Math.floor(prefixBits / BITS_OF_BYTE);
  for (let at = 0; at < whole; at += 1) if (left[at] !== right[at]) return false;
  const restBits = prefixBits % BITS_OF_BYTE;
  const mask = (0xff << (BITS_OF_BYTE - restBits)) & 0xff;
  return restBits === 0 || ((left[whole] ?? 0) & mask) === ((right[whole] ?? 0) & mask);
};

const firstOf = ({ bytes, prefixBits }: Range): readonly number[] =>
  bytes.map((byte, at) => {
    const bits = Math.max(0, Math.min(BITS_OF_BYTE, prefixBits - at * BITS_OF_BYTE));
    return byte & ((0xff << (BITS_OF_BYTE - bits)) & 0xff);
  });

const rangeText = ({ bytes, prefixBits }: Range): string =>
  prefixBits === bytes.length * BITS_OF_BYTE ? addressText(bytes) : `${addressText(bytes)}/${prefixBits}`;

/** The range of an entry in canonical form (IPv4-mapped as IPv4), or what is wrong with it. */
const parseRange = (text: string): Range | string => {
  const [, address = '', prefix] = FORM.exec(text) ?? [];
  const written = parseAddress(address);
  const shown = JSON.stringify(text.slice(0, 64));
  if (written === undefined)
    return `${shown} is neither an address nor ADDRESS/PREFIX, like 10.1.0.0/16 or fd00::7`;
  const allBits = written.length * BITS_OF_BYTE;
  const givenBits = prefix === undefined ? allBits : Number(prefix);
  if (givenBits > allBits) return `prefix /${givenBits} of ${shown} is longer than ${allBits}`;
  const isIpv4 = isMapped(written) && givenBits >= MAPPED_BITS;
  const range: Range = isIpv4
    ? { bytes: written.slice(MAPPED_BITS / BITS_OF_BYTE), prefixBits: givenBits - MAPPED_BITS }
    : { bytes: written, prefixBits: givenBits };
  if (range.prefixBits === 0) return `${shown} is every address: any client could name any source`;
  const first = firstOf(range);
  if (!hasSamePrefix(first, range.bytes, range.bytes.length * BITS_OF_BYTE))
    return `${shown} has bits behind its prefix; the range is ${rangeText({ ...range, bytes: first })}`;
  return range;
};

/** What is wrong with one address or range; undefined when nothing is. */
export const proxyAddressProblem = (text: string): string | undefined => {
  const range = parseRange(text);
  return typeof range === 'string' ? range : undefined;
};

const split = (proxy: TrustedProxy): { address: string; sends: ProxySends } =>
  typeof proxy === 'string' ? { address: proxy, sends: 'x_forwarded_for' } : proxy;

/** The entries that repeat the range of an earlier one, by index and in canonical form. */
export const repeatedProxies = (proxies: readonly TrustedProxy[]): { index: number; range: string }[] => {
  const seen = new Set<string>();
  return proxies.flatMap((proxy, index) => {
    const range = parseRange(split(proxy).address);
    if (typeof range === 'string') return [];
    const text = rangeText(range);
    if (seen.has(text)) return [{ index, range: text }];
    seen.add(text);
    return [];
  });
};

/** One entry of X-Forwarded-For: an address, also with a port as some proxies write it; undefined for any other text. */
const hopAddress = (text: string): string | undefined => {
  const bare = /^\[([^\]]+)\](?::\d{1,5})?$/.exec(text)?.[1] ?? /^([\d.]+):\d{1,5}$/.exec(text)?.[1];
  return canonicalAddress(bare ?? text);
};

/** Whose word about a connection's source is believed, and how it is given. */
export class TrustedProxies {
  readonly #ranges: readonly (Range & { readonly sends: ProxySends })[];

  /** @param proxies as validated by the configuration; one that is malformed trusts nobody */
  constructor(proxies: readonly TrustedProxy[]) {
    this.#ranges = proxies
      .map(split)
      .flatMap(({ address, sends }) => {
        const range = parseRange(address);
        return typeof range === 'string' ? [] : [{ ...range, sends }];
      })
      .sort((left, right) => right.prefixBits - left.prefixBits);
  }

  /** What the proxy at this canonical address sends, by the longest range; undefined when nobody trusts it. */
  sends(address: string): ProxySends | undefined {
    if (this.#ranges.length === 0) return undefined;
    const bytes = parseAddress(address);
    if (bytes === undefined) return undefined;
    return this.#ranges.find((range) => hasSamePrefix(range.bytes, bytes, range.prefixBits))?.sends;
  }

  /**
   * Where an HTTP request comes from: the first address, from this end backwards, that is no trusted proxy.
   *
   * @param from who opened the connection, in canonical form
   * @param forwardedFor X-Forwarded-For; each proxy adds whom it was connected from on the right
   * @returns undefined when a trusted proxy does not say, or says what is no address
   */
  sourceOf(from: string, forwardedFor: string | undefined): string | undefined {
    const hops = (forwardedFor ?? '').split(',');
    let address = from;
    for (;;) {
      const sends = this.sends(address);
      if (sends === undefined) return address;
      const next = sends === 'x_forwarded_for' ? hops.pop() : undefined;
      const before = next === undefined ? undefined : hopAddress(next.trim());
      if (before === undefined) return undefined;
      address = before;
    }
  }
}
