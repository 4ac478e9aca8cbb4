import {
  type IpRange,
  isInRange,
  isLoopbackHost,
  LOOPBACK_RANGES,
  parseAddress,
  parseHostPort,
  parseRange,
  unmapped,
  withoutZone,
} from '../../runtime/index.ts';

/** Ranges of one listener. */
export const MAX_CLIENT_RANGES = 256;
/** Which clients a listener takes connections of. */
export class ClientList {
  /** As configured. */
  readonly texts: readonly string[];
  readonly #ranges: readonly IpRange[];

  /** @param texts as validated by the configuration; a malformed one lets nobody in. Default: this machine alone. */
  constructor(texts: readonly string[] = LOOPBACK_RANGES) {
    this.texts = texts;
    this.#ranges = texts.flatMap((text) => {
      const range = parseRange(text);
      return typeof range === 'string' ? [] : [range];
    });
  }

  /** Whether an address as a socket shows it is listed: with a zone id and IPv4-mapped too; false for none. */
  has(address: string | undefined): boolean {
    const bytes = parseAddress(withoutZone(address ?? ''));
    if (bytes === undefined) return false;
    const plain = unmapped(bytes);
    return this.#ranges.some((range) => isInRange(range, plain));
  }
}

/** Whether only this machine reaches `HOST:PORT`. False for what is no address. */
export const isLoopbackListen = (listen: string): boolean => {
  try {
    return isLoopbackHost(parseHostPort(listen).host);
  } catch {
    return false; // another check says what is wrong with it
  }
};
