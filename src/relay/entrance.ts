import type { Socket } from 'node:net';
import { readProxyHeader } from '../protocol/index.ts';
import { Buckets, type Clock, type Logger } from '../runtime/index.ts';
import { type Origins, peerOf } from './origin.ts';
import type { TrustedProxies } from './trusted-proxies.ts';

/** Connections of one address, of one trusted proxy, and of all, that have not shown yet what they are. */
export const MAX_UNKNOWN_PER_ADDRESS = 512;
export const MAX_UNKNOWN_PER_PROXY = 8_192;
const MAX_UNKNOWN = 16_384;
/** Refusals over PROXY headers that are logged of one proxy, and of all strangers: burst, and refill. */
const LOG_BURST = 3;
const LOGS_PER_SECOND = 0.05;
const MAX_LOG_BUCKETS = 256;
const STRANGERS = 'strangers';

export interface EntranceOptions {
  readonly proxies: TrustedProxies;
  readonly origins: Origins;
  /** Connections of all addresses that have not shown yet what they are. Default `MAX_UNKNOWN`. */
  readonly maxUnknown?: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What the bytes of a connection are, past its PROXY header. */
export type Opening =
  | { readonly kind: 'more' }
  | { readonly kind: 'refused' }
  | { readonly kind: 'rest'; readonly bytes: Buffer };

/** One connection that has not shown yet what it is. */
export interface Newcomer {
  /** What it counts by now, for logs. */
  readonly address: string;
  /**
   * Takes the PROXY header off the beginning, once; what comes back is maybe empty.
   *
   * @param bytes everything received so far, without what an earlier call took off
   */
  read(bytes: Buffer): Opening;
  /** It is known or gone: no longer counted. Once or often. */
  release(): void;
}

/** Counts who has not shown yet what it is, and reads PROXY headers of the proxies that must send one. */
export class Entrance {
  readonly #options: EntranceOptions;
  readonly #unknown = new Map<string, number>();
  readonly #logs: Buckets;
  #unknownCount = 0;

  constructor(options: EntranceOptions) {
    this.#options = options;
    this.#logs = new Buckets(options.clock, {
      burst: LOG_BURST,
      perSecond: LOGS_PER_SECOND,
      mostBuckets: MAX_LOG_BUCKETS,
    });
  }

  /** Counts a new connection; undefined when its address, or all, have too many. */
  admit(socket: Socket): Newcomer | undefined {
    const { proxies } = this.#options;
    const peer = peerOf(socket);
    const sends = proxies.sends(peer);
    let address = peer;
    let release = this.#count(peer);
    if (release === undefined) return undefined;
    let headerIsDue = true;
    const refuse = (detail: string): Opening => {
      this.#log(peer, sends === undefined ? STRANGERS : peer, detail);
      return { kind: 'refused' };
    };
    const read = (bytes: Buffer): Opening => {
      if (!headerIsDue) return { kind: 'rest', bytes };
      const header = readProxyHeader(bytes);
      if (header.kind === 'more') return header;
      headerIsDue = false;
      if (sends !== 'proxy_protocol') {
        if (header.kind === 'none') return { kind: 'rest', bytes };
        return refuse('a PROXY header came from an address that trusted_proxies does not say sends one');
      }
      if (header.kind === 'none') return refuse('no PROXY header came from a proxy that has to send one');
      if (header.kind === 'invalid') return refuse(`PROXY header: ${header.detail}`);
      const { source } = header;
      this.#options.origins.tell(socket, { peer, from: source });
      if (source !== undefined && proxies.sends(source) === undefined) {
        release?.();
        address = source;
        release = this.#count(source);
        if (release === undefined) return { kind: 'refused' };
      }
      return { kind: 'rest', bytes: bytes.subarray(header.consumedBytes) };
    };
    return {
      get address() {
        return address;
      },
      read,
      release: () => {
        release?.();
        release = undefined;
      },
    };
  }

  #count(address: string): (() => void) | undefined {
    const most =
      this.#options.proxies.sends(address) === undefined ? MAX_UNKNOWN_PER_ADDRESS : MAX_UNKNOWN_PER_PROXY;
    const ofAddress = this.#unknown.get(address) ?? 0;
    if (ofAddress >= most || this.#unknownCount >= (this.#options.maxUnknown ?? MAX_UNKNOWN))
      return undefined;
    this.#unknown.set(address, ofAddress + 1);
    this.#unknownCount += 1;
    return () => {
      const left = (this.#unknown.get(address) ?? 1) - 1;
      if (left === 0) this.#unknown.delete(address);
      else this.#unknown.set(address, left);
      this.#unknownCount -= 1;
    };
  }

  #log(peer: string, bucket: string, detail: string): void {
    const level = this.#logs.take(bucket) ? 'warn' : 'debug';
    this.#options.logger[level]({ peer, detail }, 'connection refused');
  }
}
