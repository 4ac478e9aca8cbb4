import type { AttachedCredential, LinkOffer, LinkRefusal, LinkRequest } from '../protocol/index.ts';
import { Backoff, type Clock, type CloseReason, type Logger, messageOf, sleep } from '../runtime/index.ts';
import type { GatewayLink } from './gateway-link.ts';

/** A link request that just failed answers for those that come within this time. */
const FRESH_FAILURE_MS = 250;
/** Longest pause between tries for a connection whose link is wanted at all times. */
const EAGER_PAUSE_MS = 5_000;
/** After no second agent was found, the next search. */
const SECOND_AGENT_MS = 30_000;
/** Links to one agent at most. */
const MAX_LINKS_PER_AGENT = 4;
/** A link with this round trip and this many streams waiting for it gets another beside it. */
const SLOW_RTT_MS = 10;
const SLOW_WAITING_STREAMS = 2;
/** A link without a stream for this long is closed. */
const IDLE_LINK_MS = 5 * 60 * 1_000;
/** A link is replaced at this age or volume: nothing rekeys AES-GCM by itself (protocol.md, Rendezvous). */
const MAX_LINK_AGE_MS = 24 * 60 * 60 * 1_000;
const MAX_LINK_BYTES = 256 * 1024 ** 3;
/** Streams of a replaced link may go on this long. */
const REPLACED_DEADLINE_MS = 24 * 60 * 60 * 1_000;

export interface LinkFailure {
  readonly code: CloseReason;
  readonly detail: string;
}

export interface PoolDeps {
  readonly connection: string;
  readonly isEager: boolean;
  readonly spki: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Nodes are tried in the order that this gives. */
  readonly order: (nodes: readonly string[]) => readonly string[];
  readonly request: (node: string, request: LinkRequest) => Promise<LinkOffer | LinkRefusal>;
  /** Opens the data link of an offer; its end is told by `onLinkEnd`. */
  readonly open: (node: string, offer: LinkOffer) => Promise<GatewayLink>;
  /** False when the gateway has as many links as it may. */
  readonly mayOpen: () => boolean;
}

/** What waits for a link: served with a link, or failed with the reason. */
export interface Waiter {
  serve(link: GatewayLink): void;
  fail(failure: LinkFailure): void;
}

type Attempt = { readonly link: GatewayLink } | { readonly failure: LinkFailure };

/** The data links of one connection and credential. */
export class LinkPool {
  readonly #deps: PoolDeps;
  readonly #credentials = new Map<string, AttachedCredential>();
  readonly #links = new Set<GatewayLink>();
  readonly #waiters = new Set<Waiter>();
  readonly #backoff = new Backoff();
  readonly #closing = new AbortController();
  #wake = new AbortController();
  #isRunning = false;
  /** True while a request is under way, false in the pause after a failed one. */
  #isTrying = false;
  #isClosed = false;
  #other: Promise<Attempt> | undefined;
  #secondDueMs = 0;
  #successor: LinkPool | undefined;
  #last: (LinkFailure & { readonly atMs: number }) | undefined;

  constructor(deps: PoolDeps) {
    this.#deps = deps;
  }

  get connection(): string {
    return this.#deps.connection;
  }

  get isEager(): boolean {
    return this.#deps.isEager;
  }

  get links(): readonly GatewayLink[] {
    return [...this.#links];
  }

  get waitingCount(): number {
    return this.#waiters.size;
  }

  /** The keys this pool stands on, one per node at most. */
  get credentials(): ReadonlyMap<string, AttachedCredential> {
    return this.#credentials;
  }

  /** Why there is no link, of the last try. */
  get lastFailure(): LinkFailure | undefined {
    return this.#last;
  }

  onAttached(node: string, credential: AttachedCredential): void {
    this.#credentials.set(node, credential);
    this.#last = undefined;
    this.#hurry();
    if (this.isEager || this.#waiters.size > 0) this.#ensure();
  }

  /** A node's control link is gone or it dropped the credential; links of before live on. */
  onDetached(node: string, failure?: LinkFailure): void {
    this.#credentials.delete(node);
    if (failure === undefined) return;
    this.#last = { ...failure, atMs: this.#deps.clock.monotonicMs() };
    if (this.#credentials.size === 0) this.#failWaiters(failure);
  }

  /** Whether another pool has taken over. */
  get isReplaced(): boolean {
    return this.#successor !== undefined;
  }

  /**
   * Another key's pool takes over: who waits here waits there, links take no new streams and serve out those they have.
   */
  replaceBy(successor: LinkPool): void {
    this.#successor = successor;
    this.#isClosed = true;
    this.#closing.abort(new Error('replaced'));
    this.#hurry();
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) successor.wait(waiter);
    for (const link of this.#links) link.retire('link_lost', REPLACED_DEADLINE_MS);
  }

  /** A link for a new stream: the one with the fewest streams; undefined when none can take one now. */
  pick(): GatewayLink | undefined {
    if (this.#successor !== undefined) return this.#successor.pick();
    const best = this.#openable();
    if (best !== undefined) this.#seekSecond(best);
    return best;
  }

  /** Waits for a link; the caller bounds the wait with `forget`. */
  wait(waiter: Waiter): void {
    if (this.#successor !== undefined) {
      this.#successor.wait(waiter);
      return;
    }
    const { clock } = this.#deps;
    const last = this.#last;
    if (last !== undefined && clock.monotonicMs() - last.atMs < FRESH_FAILURE_MS && !this.#isTrying) {
      waiter.fail(last);
      return;
    }
    this.#waiters.add(waiter);
    this.#hurry();
    this.#ensure();
  }

  forget(waiter: Waiter): void {
    this.#successor?.forget(waiter);
    this.#waiters.delete(waiter);
  }

  /** A link to another agent than the one given, made if need be; one try. */
  async other(excluded: string): Promise<GatewayLink | undefined> {
    if (this.#successor !== undefined) return this.#successor.other(excluded);
    const there = this.#openable(excluded);
    if (there !== undefined) return there;
    const attempt = await this.#seekOther([excluded]);
    return 'link' in attempt && attempt.link.instance !== excluded ? attempt.link : undefined;
  }

  /** Makes the first link now when it is wanted at all times. */
  start(): void {
    if (this.isEager) this.#ensure();
  }

  /** A link of this pool takes no more streams: another is made in time. */
  onGoAway(): void {
    if (this.#openable() === undefined && (this.isEager || this.#waiters.size > 0)) this.#ensure();
  }

  onLinkEnd(link: GatewayLink): void {
    this.#links.delete(link);
    if (this.#isClosed || this.#openable() !== undefined) return;
    if (this.isEager || this.#waiters.size > 0) this.#ensure();
  }

  /** Closes idle links, replaces old ones, adds one beside a slow one; called every few seconds. */
  maintain(): void {
    const { clock } = this.#deps;
    for (const link of this.#links) {
      if (link.isRetiring) continue;
      const stats = link.stats();
      const volume = Math.max(stats.bytesIn, stats.bytesOut);
      if (clock.monotonicMs() - link.openedMs >= MAX_LINK_AGE_MS || volume >= MAX_LINK_BYTES) {
        link.retire('link_lost', REPLACED_DEADLINE_MS);
        this.onGoAway();
      } else if (link.idleMs() >= IDLE_LINK_MS && !(this.isEager && this.#links.size === 1)) {
        link.retire('idle_timeout', 0);
      } else if ((stats.rttMs ?? 0) >= SLOW_RTT_MS && stats.waiting >= SLOW_WAITING_STREAMS) {
        this.#seekBeside(link);
      }
    }
  }

  /** Cuts links and what waits, for links that match. Says how many links and streams that were. */
  cut(reason: CloseReason, matches: (link: GatewayLink) => boolean): { links: number; streams: number } {
    const found = this.links.filter(matches);
    const streams = found.reduce((sum, link) => sum + link.session.streamCount, 0);
    for (const link of found) link.cut(reason);
    return { links: found.length, streams };
  }

  failWaiters(failure: LinkFailure): void {
    this.#failWaiters(failure);
  }

  /** Makes no more links; the links that are there are the caller's to end. */
  close(): void {
    this.#isClosed = true;
    this.#closing.abort(new Error('closed'));
    this.#hurry();
    this.#failWaiters({ code: 'gateway_shutdown', detail: 'the gateway is shutting down' });
  }

  #openable(excluded?: string): GatewayLink | undefined {
    let best: GatewayLink | undefined;
    for (const link of this.#links) {
      if (!link.isOpenable || link.instance === excluded) continue;
      if (best === undefined || link.session.streamCount < best.session.streamCount) best = link;
    }
    return best;
  }

  #failWaiters(failure: LinkFailure): void {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    for (const waiter of waiters) waiter.fail(failure);
  }

  #serveWaiters(link: GatewayLink): void {
    for (const waiter of [...this.#waiters]) {
      if (!link.isOpenable) return;
      this.#waiters.delete(waiter);
      waiter.serve(link);
    }
  }

  /** Ends a pause between two tries. */
  #hurry(): void {
    this.#wake.abort(new Error('hurry'));
    this.#wake = new AbortController();
  }

  #ensure(): void {
    if (this.#isRunning || this.#isClosed) return;
    this.#isRunning = true;
    this.#run()
      .catch((error: unknown) => {
        this.#failWaiters({ code: 'internal', detail: messageOf(error) });
        this.#deps.logger.error(
          { err: messageOf(error), connection: this.connection },
          'making a data link failed',
        );
      })
      .finally(() => {
        this.#isRunning = false;
        // A credential or somebody who waits may have come between the last look and here.
        const isWanted = this.isEager || this.#waiters.size > 0;
        if (isWanted && this.#credentials.size > 0 && this.#openable() === undefined) this.#ensure();
      });
  }

  /** Tries until there is a link, as long as one is wanted and some node would take the request. */
  async #run(): Promise<void> {
    while (!this.#isClosed && this.#credentials.size > 0 && this.#openable() === undefined) {
      this.#isTrying = true;
      const attempt = await this.#attempt([]);
      this.#isTrying = false;
      if ('link' in attempt) {
        this.#backoff.reset();
        continue;
      }
      const { failure } = attempt;
      if (this.#last?.code !== failure.code) {
        this.#deps.logger.warn(
          { connection: this.connection, reason: failure.code },
          `no data link: ${failure.detail}`,
        );
      }
      this.#last = { ...failure, atMs: this.#deps.clock.monotonicMs() };
      this.#failWaiters(failure);
      if (!this.isEager) return;
      await this.#pause(Math.min(EAGER_PAUSE_MS, this.#backoff.nextDelayMs()));
    }
  }

  async #pause(delayMs: number): Promise<void> {
    try {
      await sleep(this.#deps.clock, delayMs, this.#wake.signal);
    } catch {
      // Somebody wants a link now: the pause is over.
    }
  }

  /** One round over the nodes that hold the credential; the failure is the last node's. */
  async #attempt(exclude: readonly string[], want?: string): Promise<Attempt> {
    const { order, mayOpen, spki, request, open, logger } = this.#deps;
    let failure: LinkFailure = { code: 'link_failed', detail: 'logged in at no relay node' };
    if (!mayOpen())
      return { failure: { code: 'overloaded', detail: 'the gateway has as many data links as it may' } };
    for (const node of order([...this.#credentials.keys()])) {
      const credential = this.#credentials.get(node);
      if (credential === undefined) continue;
      try {
        const answer = await request(node, {
          cred: credential.cred,
          connection: this.connection,
          spki,
          exclude,
          ...(want === undefined ? {} : { want }),
        });
        if ('refused' in answer) {
          failure = { code: answer.code, detail: answer.detail };
          continue;
        }
        const link = await open(node, answer);
        if (this.#successor !== undefined) {
          link.retire('link_lost', 0);
          return { failure: { code: 'link_failed', detail: 'another key took over' } };
        }
        if (this.#isClosed) {
          link.cut('gateway_shutdown');
          return { failure: { code: 'gateway_shutdown', detail: 'the gateway is shutting down' } };
        }
        this.#links.add(link);
        this.#last = undefined;
        this.#serveWaiters(link);
        logger.info(
          { connection: this.connection, link_id: link.id, node, agent: answer.peer.name },
          'data link is up',
        );
        return { link };
      } catch (error) {
        failure = { code: 'link_failed', detail: messageOf(error) };
      }
    }
    return { failure };
  }

  #seekOther(exclude: readonly string[], want?: string): Promise<Attempt> {
    this.#other ??= this.#attempt(exclude, want)
      .catch((error: unknown): Attempt => ({ failure: { code: 'internal', detail: messageOf(error) } }))
      .finally(() => {
        this.#other = undefined;
      });
    return this.#other;
  }

  /** Once the first link carries streams, a second one to another agent is sought. */
  #seekSecond(first: GatewayLink): void {
    const nowMs = this.#deps.clock.monotonicMs();
    if (this.#links.size > 1 || nowMs < this.#secondDueMs || this.#other !== undefined) return;
    this.#secondDueMs = nowMs + SECOND_AGENT_MS;
    void this.#seekOther([first.instance]);
  }

  #seekBeside(link: GatewayLink): void {
    const same = this.links.filter(({ instance, isRetiring }) => instance === link.instance && !isRetiring);
    if (same.length >= MAX_LINKS_PER_AGENT || this.#other !== undefined) return;
    void this.#seekOther([], link.instance);
  }
}
