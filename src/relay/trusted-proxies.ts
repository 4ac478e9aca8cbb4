import {
  canonicalAddress,
  type IpRange,
  isInRange,
  parseAddress,
  parseRange,
  rangeText,
} from '../runtime/index.ts';

/** How a trusted proxy tells whom it speaks for. Never guessed: a client could say it in the proxy's place. */
export const PROXY_SENDS = ['x_forwarded_for', 'proxy_protocol', 'nothing'] as const;
export type ProxySends = (typeof PROXY_SENDS)[number];

/** A proxy of relay.yaml: `ADDRESS` or `ADDRESS/PREFIX`; alone it means `x_forwarded_for`. */
export type TrustedProxy = string | { readonly address: string; readonly sends: ProxySends };

/** Entries of one configuration. */
export const MAX_TRUSTED_PROXIES = 256;

/** As `parseRange`, without the range of all addresses. */
const proxyRange = (text: string): IpRange | string => {
  const range = parseRange(text);
  return typeof range !== 'string' && range.prefixBits === 0
    ? `${JSON.stringify(text)} is every address: any client could name any source`
    : range;
};

/** What is wrong with one address or range; undefined when nothing is. */
export const proxyAddressProblem = (text: string): string | undefined => {
  const range = proxyRange(text);
  return typeof range === 'string' ? range : undefined;
};

const split = (proxy: TrustedProxy): { address: string; sends: ProxySends } =>
  typeof proxy === 'string' ? { address: proxy, sends: 'x_forwarded_for' } : proxy;

/** The entries that repeat the range of an earlier one, by index and in canonical form. */
export const repeatedProxies = (proxies: readonly TrustedProxy[]): { index: number; range: string }[] => {
  const seen = new Set<string>();
  return proxies.flatMap((proxy, index) => {
    const range = proxyRange(split(proxy).address);
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
  readonly #ranges: readonly (IpRange & { readonly sends: ProxySends })[];

  /** @param proxies as validated by the configuration; one that is malformed trusts nobody */
  constructor(proxies: readonly TrustedProxy[]) {
    this.#ranges = proxies
      .map(split)
      .flatMap(({ address, sends }) => {
        const range = proxyRange(address);
        return typeof range === 'string' ? [] : [{ ...range, sends }];
      })
      .sort((left, right) => right.prefixBits - left.prefixBits);
  }

  /** What the proxy at this canonical address sends, by the longest range; undefined when nobody trusts it. */
  sends(address: string): ProxySends | undefined {
    if (this.#ranges.length === 0) return undefined;
    const bytes = parseAddress(address);
    if (bytes === undefined) return undefined;
    return this.#ranges.find((range) => isInRange(range, bytes))?.sends;
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
