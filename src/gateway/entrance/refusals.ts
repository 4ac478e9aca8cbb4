import type { Counter } from 'prom-client';
import { Buckets, type Clock, type Logger } from '../../runtime/index.ts';

/** Ways into a gateway; `listener` is a connection's own. The words of configuration, metrics and evidence. */
export type EntranceKind = 'listener' | 'transparent' | 'socks5' | 'http_connect';

/**
 * Why an entrance itself refuses a client, before there is a stream.
 * - `client_address`: not among its `clients`
 * - `malformed`: what it sent is not of the protocol, or beyond a bound
 * - `unsupported`: of the protocol, and nothing that this entrance does
 * - `unauthenticated`: no user's name and password
 * - `unlisted`: it leads to no connection of that target or name
 * - `too_slow`: the request was not complete in time
 * - `overloaded`: as many clients as may are about to say what they want
 */
export type EntranceCause =
  | 'client_address'
  | 'malformed'
  | 'unsupported'
  | 'unauthenticated'
  | 'unlisted'
  | 'too_slow'
  | 'overloaded';

/** Lines about one client address: burst, and one in 20 s; the rest is in the metric. */
const LOG_BURST = 3;
const LOGS_PER_SECOND = 0.05;
const MAX_LOG_BUCKETS = 256;

/** Counts clients that entrances refuse, and logs some of them. */
export class Refusals {
  readonly #logger: Logger;
  readonly #counter: Counter<'entrance' | 'cause'>;
  readonly #logs: Buckets;

  constructor(clock: Clock, logger: Logger, counter: Counter<'entrance' | 'cause'>) {
    this.#logger = logger;
    this.#counter = counter;
    this.#logs = new Buckets(clock, {
      burst: LOG_BURST,
      perSecond: LOGS_PER_SECOND,
      mostBuckets: MAX_LOG_BUCKETS,
    });
  }

  /** @param at the listener's `ADDR:PORT` */
  note(
    entrance: EntranceKind,
    cause: EntranceCause,
    client: { readonly address: string | undefined; readonly at: string },
    detail: string | undefined,
  ): void {
    this.#counter.inc({ entrance, cause });
    const { address = 'unknown', at } = client;
    const level = this.#logs.take(address) ? 'warn' : 'debug';
    this.#logger[level]({ entrance, listen: at, client: address, cause, detail }, 'client refused');
  }
}
