import type { AttachedCredential, LinkOffer, LinkRefusal, LinkRequest } from '../protocol/index.ts';
import { Backoff, type Clock, type CloseReason, type Logger, messageOf, sleep } from '../runtime/index.ts';
import type { GatewayLink } from './gateway-link.ts';
import { Handover } from './handover.ts';
import { linkCare } from './link-care.ts';
import type { LinkFailure, SearchDeps } from './link-search.ts';
import { LinkSearches, type LinkWish } from './link-searches.ts';
import type { NodeChoice } from './node-choice.ts';
import { type Waiter, Waiters } from './waiters.ts';

/** A link request that just failed answers for those that come within this time. */
const FRESH_FAILURE_MS = 250;
/** Longest pause between tries for a connection whose link is wanted at all times. */
const EAGER_PAUSE_MS = 5_000;
/** After a link to a second agent was sought, the next search for one. */
const SECOND_AGENT_MS = 30_000;
/** Links to one agent at most. */
const MAX_LINKS_PER_AGENT = 4;
/** Streams of a replaced link may go on this long. */
const REPLACED_DEADLINE_MS = 24 * 60 * 60 * 1_000;

export interface PoolDeps {
  readonly connection: string;
  readonly isEager: boolean;
  /** Every node that the gateway logs in at. */
  readonly nodes: readonly string[];
  readonly spki: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What is known of the nodes; one for all pools. */
  readonly choice: NodeChoice;
  readonly request: (node: string, request: LinkRequest) => Promise<LinkOffer | LinkRefusal>;
  /** Opens the data link of an offer; its end is told by `onLinkEnd`. An abort gives it up, and the node is told. */
  readonly open: (node: string, offer: LinkOffer, signal: AbortSignal) => Promise<GatewayLink>;
  /** Tells the node that its offer is not taken up. */
  readonly decline: (node: string, offer: LinkOffer, detail: string) => void;
  /** False when the gateway has as many links as it may. */
  readonly mayOpen: () => boolean;
}

/** Codes of GOAWAY that say nothing of the agent: its node stops, or the link is replaced (age, volume, another key). */
const LINK_ONLY: ReadonlySet<CloseReason> = new Set(['relay_shutdown', 'link_lost']);

/** The data links of one connection and credential. */
export class LinkPool {
  readonly #deps: PoolDeps;
  readonly #credentials = new Map<string, AttachedCredential>();
  readonly #links = new Set<GatewayLink>();
  readonly #waiters = new Waiters();
  readonly #backoff = new Backoff();
  #wake = new AbortController();
  #isRunning = false;
  /** True while a request is under way, false in the pause after a failed one. */
  #isTrying = false;
  #isClosed = false;
  readonly #searches: LinkSearches;
  readonly #handover: Handover;
  #secondDueMs = 0;
  #successor: LinkPool | undefined;
  #last: (LinkFailure & { readonly atMs: number }) | undefined;
  /** What each node last said that would not have the credential, until it does have it. */
  readonly #refusals = new Map<string, LinkFailure>();

  constructor(deps: PoolDeps) {
    this.#deps = deps;
    this.#searches = new LinkSearches((wish) => this.#searchDeps(wish));
    this.#handover = new Handover({
      clock: deps.clock,
      find: () => this.#searches.find({ exclude: [] }),
      isCovered: () => this.#best((link) => !link.isSilent && !this.#handover.has(link)) !== undefined,
      onLeft: () => {
        this.#secondDueMs = 0;
        this.onGoAway();
      },
    });
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
    return this.#waiters.count;
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
    this.#refusals.delete(node);
    this.#last = undefined;
    this.#hurry();
    this.#searches.nudge();
    if (this.isEager || this.#waiters.count > 0) this.#ensure();
  }

  /** A node's control link is gone or it dropped the credential; links of before live on. */
  onDetached(node: string, failure?: LinkFailure): void {
    this.#credentials.delete(node);
    if (failure === undefined) return;
    this.#refusals.set(node, failure);
    this.#last = { ...failure, atMs: this.#deps.clock.monotonicMs() };
    if (this.#credentials.size === 0) this.#waiters.failAll(failure);
  }

  /** The key is no good at any node, those included that are away now. */
  onKeyRevoked(failure: LinkFailure): void {
    for (const node of this.#deps.nodes) this.onDetached(node, failure);
  }

  /** Whether another pool has taken over. */
  get isReplaced(): boolean {
    return this.#successor !== undefined;
  }

  /**
   * Another key's pool takes over: who waits here is served or waits there, links take no new streams and serve out
   * those they have.
   */
  replaceBy(successor: LinkPool): void {
    this.#successor = successor;
    this.#isClosed = true;
    this.#searches.stop({ code: 'link_failed', detail: 'another key took over' });
    this.#handover.stop();
    this.#hurry();
    for (const waiter of this.#waiters.takeAll()) {
      // The successor's link is there already, and no other is made for who waits.
      const link = successor.pick();
      if (link === undefined) successor.wait(waiter);
      else waiter.serve(link);
    }
    for (const link of this.#links) link.retire('link_lost', REPLACED_DEADLINE_MS);
  }

  /**
   * A link for a new stream: the one with the fewest streams, one that stays before one that is being left; undefined
   * when none can take one now, or none that is not silent.
   */
  pick(): GatewayLink | undefined {
    if (this.#successor !== undefined) return this.#successor.pick();
    const best = this.#best(isAnswering);
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
      const silent = this.#best();
      if (silent === undefined) waiter.fail(last);
      else waiter.serve(silent);
      return;
    }
    const refusal = this.#refusedEverywhere();
    if (refusal !== undefined) {
      waiter.fail(refusal);
      return;
    }
    this.#waiters.add(waiter);
    this.#hurry();
    this.#ensure();
  }

  forget(waiter: Waiter): void {
    this.#successor?.forget(waiter);
    this.#waiters.remove(waiter);
  }

  /**
   * Another link for a stream that `link` handed back with `code`, made if need be; one try. Another agent's, unless
   * only this link or its node is going away: then the same agent's will do.
   */
  async another(link: GatewayLink, code: CloseReason): Promise<GatewayLink | undefined> {
    if (this.#successor !== undefined) return this.#successor.another(link, code);
    const exclude = LINK_ONLY.has(code) ? [] : [link.instance];
    const suits = (other: GatewayLink): boolean => other !== link && !exclude.includes(other.instance);
    const there = this.#best((other) => suits(other) && !other.isSilent);
    if (there !== undefined) return there;
    const found = await this.#searches.find({ exclude });
    return 'link' in found && suits(found.link) ? found.link : this.#best(suits);
  }

  /**
   * A link to the same agent that does not share the silence of `link`, made if need be; one try. It has just answered:
   * were the agent busy and not the way to it silent, it would not have.
   */
  async around(link: GatewayLink): Promise<GatewayLink | undefined> {
    if (this.#successor !== undefined) return undefined;
    const suits = (other: GatewayLink): boolean => other.instance === link.instance && !other.isSilent;
    const there = this.#best(suits);
    if (there !== undefined && (await there.answers())) return there;
    const found = await this.#searches.find({ exclude: [], want: link.instance });
    return 'link' in found && suits(found.link) ? found.link : undefined;
  }

  /** Makes the first link now when it is wanted at all times. */
  start(): void {
    if (this.isEager) this.#ensure();
  }

  /** A link of this pool takes no more streams: another is made in time. */
  onGoAway(): void {
    if (!this.#isClosed && this.#best(isAnswering) === undefined && this.#isWanted) this.#ensure();
  }

  /** A node stops within `deadlineMs`: nothing is asked of it, and links over it are left for others. */
  onNodeLeaving(node: string, deadlineMs: number): void {
    this.#credentials.delete(node);
    const links = this.links.filter((link) => link.node === node);
    this.#leave(links, 'relay_shutdown', deadlineMs);
  }

  onLinkEnd(link: GatewayLink): void {
    this.#links.delete(link);
    this.#handover.forget(link);
    this.onGoAway();
  }

  /** Closes idle links, replaces old ones, adds one beside a slow one; called every few seconds. */
  maintain(): void {
    const nowMs = this.#deps.clock.monotonicMs();
    for (const link of this.#links) {
      if (link.isRetiring || this.#handover.has(link)) continue;
      if (link.session.streamCount > 0 && link.isOpenable) this.#seekSecond(link);
      const due = linkCare(link, nowMs);
      if (due === 'replace') this.#leave([link], 'link_lost', REPLACED_DEADLINE_MS);
      else if (due === 'relieve') this.#seekBeside(link);
      else if (due === 'close' && !(this.isEager && this.#links.size === 1)) link.retire('idle_timeout', 0);
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
    this.#waiters.failAll(failure);
  }

  /** Makes no more links; the links that are there are the caller's to end. */
  close(): void {
    const failure: LinkFailure = { code: 'gateway_shutdown', detail: 'the gateway is shutting down' };
    this.#isClosed = true;
    this.#searches.stop(failure);
    this.#handover.stop();
    this.#hurry();
    this.#waiters.failAll(failure);
  }

  /** Whether somebody waits for a link, or wants one at all times. */
  get #isWanted(): boolean {
    return this.isEager || this.#waiters.count > 0;
  }

  /** Why no node will have the credential, when none will: nothing comes of waiting then. A node that is away may still. */
  #refusedEverywhere(): LinkFailure | undefined {
    const { nodes } = this.#deps;
    if (this.#credentials.size > 0 || nodes.some((node) => !this.#refusals.has(node))) return undefined;
    return [...this.#refusals.values()].at(-1);
  }

  /** Of the links that take streams and suit, one that is not being left if there is one, with the fewest streams. */
  #best(suits: (link: GatewayLink) => boolean = () => true): GatewayLink | undefined {
    let best: GatewayLink | undefined;
    for (const link of this.#links) {
      if (!link.isOpenable || !suits(link)) continue;
      if (best === undefined || this.#isBetter(link, best)) best = link;
    }
    return best;
  }

  #isBetter(link: GatewayLink, than: GatewayLink): boolean {
    const isLeft = this.#handover.has(link);
    if (isLeft !== this.#handover.has(than)) return !isLeft;
    return link.session.streamCount < than.session.streamCount;
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
        this.#waiters.failAll({ code: 'internal', detail: messageOf(error) });
        this.#deps.logger.error(
          { err: messageOf(error), connection: this.connection },
          'making a data link failed',
        );
      })
      .finally(() => {
        this.#isRunning = false;
        // A credential or somebody who waits may have come between the last look and here.
        if (this.#isWanted && this.#credentials.size > 0 && this.#best(isAnswering) === undefined)
          this.#ensure();
      });
  }

  /** Tries until there is a link, as long as one is wanted and some node would take the request. */
  async #run(): Promise<void> {
    while (!this.#isClosed && this.#credentials.size > 0 && this.#best(isAnswering) === undefined) {
      this.#isTrying = true;
      const found = await this.#searches.find({ exclude: [] });
      this.#isTrying = false;
      if ('link' in found) {
        this.#backoff.reset();
        // The new link may be full before everybody is served; others may have room again.
        this.#waiters.serveFrom(() => this.#best(isAnswering));
        continue;
      }
      const { failure } = found;
      if (this.#last?.code !== failure.code) {
        this.#deps.logger.warn(
          { connection: this.connection, reason: failure.code },
          `no data link: ${failure.detail}`,
        );
      }
      this.#last = { ...failure, atMs: this.#deps.clock.monotonicMs() };
      // A silent link may speak again; there is nothing better.
      const silent = this.#best();
      if (silent !== undefined) this.#waiters.serveWith(silent);
      this.#waiters.failAll(failure);
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

  #searchDeps({ exclude, want }: LinkWish): SearchDeps {
    const { clock, choice, mayOpen, spki, open, decline } = this.#deps;
    return {
      clock,
      mayOpen,
      open,
      decline,
      nodes: () => choice.order([...this.#credentials.keys()], (node) => this.#countAt(node)),
      request: async (node) => {
        const cred = this.#credentials.get(node)?.cred;
        if (cred === undefined) throw new Error(`logged in at ${node} no longer`);
        const wish = { exclude, ...(want === undefined ? {} : { want }) };
        return this.#deps.request(node, { cred, connection: this.connection, spki, ...wish });
      },
      silent: (node) => choice.silent(node),
      heard: (node) => choice.heard(node),
      onLink: (link) => this.#onLink(link),
    };
  }

  /** A search has made a link. */
  #onLink(link: GatewayLink): void {
    const { logger, choice } = this.#deps;
    this.#links.add(link);
    this.#last = undefined;
    this.#waiters.serveWith(link);
    const { node, id } = link;
    logger.info(
      { connection: this.connection, link_id: id, node, agent: link.offer.peer.name },
      'data link is up',
    );
    const leftMs = choice.leavesInMs(node);
    if (leftMs !== undefined) this.#leave([link], 'relay_shutdown', leftMs);
  }

  #countAt(node: string): number {
    return this.links.filter((link) => link.node === node && link.isOpenable).length;
  }

  #leave(links: readonly GatewayLink[], reason: CloseReason, deadlineMs: number): void {
    this.#handover.leave(links, reason, deadlineMs, this.#credentials.size > 0);
  }

  /** Once a link carries streams, another one to a second agent is sought. */
  #seekSecond(first: GatewayLink): void {
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs < this.#secondDueMs || this.#best((link) => link.instance !== first.instance) !== undefined)
      return;
    this.#secondDueMs = nowMs + SECOND_AGENT_MS;
    void this.#searches.find({ exclude: [first.instance] });
  }

  #seekBeside({ instance }: GatewayLink): void {
    const same = this.links.filter((link) => link.instance === instance && !link.isRetiring);
    if (same.length < MAX_LINKS_PER_AGENT) void this.#searches.find({ exclude: [], want: instance });
  }
}

const isAnswering = (link: GatewayLink): boolean => !link.isSilent;
