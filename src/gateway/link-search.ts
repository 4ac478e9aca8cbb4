import type { LinkOffer, LinkRefusal } from '../protocol/index.ts';
import { type Clock, type CloseReason, messageOf, type Timer } from '../runtime/index.ts';
import type { GatewayLink } from './gateway-link.ts';
import { OfferEndedError } from './opening-offer.ts';

/**
 * A node that has not answered a link request for this long counts as silent, and the next one is asked as well. An
 * answer takes one round trip and no wait at the node; where that is longer, a second offer is asked for and declined.
 */
export const ANSWER_MS = 300;
/** An offer that is no link after this long keeps no other node from being asked: four round trips of 250 ms. */
export const OPENING_MS = 1_000;
/** Streams of a link that comes up when another was faster: it never has any. */
const UNWANTED_DEADLINE_MS = 0;

export interface LinkFailure {
  readonly code: CloseReason;
  readonly detail: string;
}

export type Found = { readonly link: GatewayLink } | { readonly failure: LinkFailure };

export interface SearchDeps {
  readonly clock: Clock;
  /** Nodes that can be asked now, the best first. */
  readonly nodes: () => readonly string[];
  /** False when the gateway has as many links as it may. */
  readonly mayOpen: () => boolean;
  readonly request: (node: string) => Promise<LinkOffer | LinkRefusal>;
  /** Opens the data link of an offer; an abort gives it up, and the node is told. */
  readonly open: (node: string, offer: LinkOffer, signal: AbortSignal) => Promise<GatewayLink>;
  /** Tells the node that its offer is not taken up, so that neither token nor place stays reserved. */
  readonly decline: (node: string, offer: LinkOffer, detail: string) => void;
  readonly silent: (node: string) => void;
  readonly heard: (node: string) => void;
  /** In the tick in which the link is there. */
  readonly onLink: (link: GatewayLink) => void;
}

/** Where the search stands with one node. */
type Stage = 'asked' | 'silent' | 'opening' | 'failed';

/**
 * One search for a data link: asks one node after another, the next as soon as the one before failed or took too long,
 * without giving that one up. The first link wins. What comes after it is put back at once: offers are declined,
 * handshakes given up, links retired.
 *
 * It fails once no node is left that may still answer. A silent node is waited for only while no other has refused.
 */
export class LinkSearch {
  readonly #deps: SearchDeps;
  readonly #stages = new Map<string, Stage>();
  /** Until the next node is asked although this one has not failed. */
  readonly #patience = new Map<string, Timer>();
  readonly #over = new AbortController();
  readonly #found: Promise<Found>;
  #settle: (found: Found) => void = () => undefined;
  #failure: LinkFailure = { code: 'link_failed', detail: 'logged in at no relay node' };
  #isRefused = false;

  constructor(deps: SearchDeps) {
    this.#deps = deps;
    this.#found = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  /** Asks the first node; resolves with the link, or the reason why there is none. */
  start(): Promise<Found> {
    this.#askNext();
    return this.#found;
  }

  /** There is another node to ask: it is asked now unless the last one asked still has time. */
  nudge(): void {
    if (this.#patience.size === 0) this.#askNext();
  }

  /** Ends the search; what still comes is put back. */
  stop(failure: LinkFailure): void {
    this.#finish({ failure });
  }

  /** Whether it has its link or has failed. */
  get isOver(): boolean {
    return this.#over.signal.aborted;
  }

  #askNext(): void {
    if (this.isOver) return;
    const node = this.#deps.nodes().find((one) => !this.#stages.has(one));
    if (node === undefined) {
      this.#failWhenHopeless();
      return;
    }
    if (!this.#deps.mayOpen()) {
      // What is being opened may have taken the last place, and may still be a link.
      if (this.#isUnderWay) return;
      this.#finish({
        failure: { code: 'overloaded', detail: 'the gateway has as many data links as it may' },
      });
      return;
    }
    this.#stages.set(node, 'asked');
    this.#giveTime(node, ANSWER_MS);
    this.#ask(node).catch((error: unknown) => {
      if (error instanceof OfferEndedError) this.#refused(node, error.reason, error.message);
      else this.#unreached(node, messageOf(error));
    });
  }

  async #ask(node: string): Promise<void> {
    const { request, open, decline, heard } = this.#deps;
    const answer = await request(node);
    heard(node);
    if ('refused' in answer) {
      this.#refused(node, answer.code, answer.detail);
      return;
    }
    if (this.isOver) {
      decline(node, answer, 'the offer came when it was not needed any more');
      return;
    }
    this.#stages.set(node, 'opening');
    this.#giveTime(node, OPENING_MS);
    const link = await open(node, answer, this.#over.signal);
    if (this.#over.signal.aborted) link.retire('link_lost', UNWANTED_DEADLINE_MS);
    else if (link.isOpenable) this.#won(link);
    else {
      link.retire('link_lost', UNWANTED_DEADLINE_MS);
      this.#unreached(node, 'the new data link serves no streams');
    }
  }

  #giveTime(node: string, delayMs: number): void {
    this.#patience.get(node)?.cancel();
    const timer = this.#deps.clock.after(delayMs, () => {
      this.#patience.delete(node);
      if (this.#stages.get(node) === 'asked') {
        this.#stages.set(node, 'silent');
        this.#deps.silent(node);
      }
      this.#askNext();
    });
    this.#patience.set(node, timer);
  }

  #refused(node: string, code: CloseReason, detail: string): void {
    this.#isRefused = true;
    this.#failure = { code, detail };
    this.#failed(node);
  }

  /** What a node refused says more than that another could not be reached. */
  #unreached(node: string, detail: string): void {
    if (!this.#isRefused) this.#failure = { code: 'link_failed', detail };
    this.#failed(node);
  }

  #failed(node: string): void {
    this.#patience.get(node)?.cancel();
    this.#patience.delete(node);
    this.#stages.set(node, 'failed');
    this.#askNext();
  }

  /** Whether an answer or a handshake is due. */
  get #isUnderWay(): boolean {
    return [...this.#stages.values()].some((stage) => stage === 'asked' || stage === 'opening');
  }

  #failWhenHopeless(): void {
    if (this.#isUnderWay) return;
    if (!this.#isRefused && [...this.#stages.values()].includes('silent')) return;
    this.#finish({ failure: this.#failure });
  }

  #won(link: GatewayLink): void {
    // The others are given up before anybody hears of the link, which may start the next search.
    this.#endAll();
    this.#settle({ link });
    this.#deps.onLink(link);
  }

  #finish(found: Found): void {
    if (this.isOver) return;
    this.#endAll();
    this.#settle(found);
  }

  #endAll(): void {
    for (const timer of this.#patience.values()) timer.cancel();
    this.#patience.clear();
    this.#over.abort(new Error('the search is over'));
  }
}
