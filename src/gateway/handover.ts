import { type Clock, type CloseReason, sleep } from '../runtime/index.ts';
import type { GatewayLink } from './gateway-link.ts';
import type { Found } from './link-search.ts';

/** A link that is to be left takes streams until there is another, for this part of its deadline and this long. */
export const HANDOVER_SHARE = 1 / 2;
export const HANDOVER_MS = 5_000;
/** After a search for the other link failed, the next one. */
export const HANDOVER_PAUSE_MS = 250;

export interface HandoverDeps {
  readonly clock: Clock;
  /** One try to make a link to stay with. */
  readonly find: () => Promise<Found>;
  /** Whether there is a link for new streams besides those that are being left. */
  readonly isCovered: () => boolean;
  /** Links have been left. */
  readonly onLeft: () => void;
}

/**
 * Leaves links in the order of protocol.md, Liveness: first a link elsewhere, then GOAWAY on the old one, whose streams
 * finish or are cut at the deadline. Until then the old link takes new streams.
 */
export class Handover {
  readonly #deps: HandoverDeps;
  readonly #leaving = new Set<GatewayLink>();
  readonly #stopping = new AbortController();

  constructor(deps: HandoverDeps) {
    this.#deps = deps;
  }

  /** Whether the link is being left. */
  has(link: GatewayLink): boolean {
    return this.#leaving.has(link);
  }

  forget(link: GatewayLink): void {
    this.#leaving.delete(link);
  }

  /**
   * Leaves links whose streams may go on for `deadlineMs` from now.
   *
   * @param canBeReplaced false when there is nowhere to ask for another link: they are left at once
   */
  leave(
    given: readonly GatewayLink[],
    reason: CloseReason,
    deadlineMs: number,
    canBeReplaced: boolean,
  ): void {
    const { clock, isCovered } = this.#deps;
    const links = given.filter((link) => !link.isRetiring && !this.#leaving.has(link));
    if (links.length === 0) return;
    const endMs = clock.monotonicMs() + deadlineMs;
    let isLeft = false;
    const leaveNow = (): void => {
      if (isLeft) return;
      isLeft = true;
      const leftMs = Math.max(0, endMs - clock.monotonicMs());
      for (const link of links) {
        this.#leaving.delete(link);
        link.retire(reason, leftMs);
      }
      this.#deps.onLeft();
    };
    for (const link of links) this.#leaving.add(link);
    const isUsed = links.some(({ isOpenable }) => isOpenable);
    if (!isUsed || !canBeReplaced || isCovered() || this.#stopping.signal.aborted) {
      leaveNow();
      return;
    }
    const timer = clock.after(Math.min(HANDOVER_MS, deadlineMs * HANDOVER_SHARE), leaveNow);
    void this.#untilReplaced(() => isLeft || links.every(({ isOpenable }) => !isOpenable)).then(() => {
      timer.cancel();
      leaveNow();
    });
  }

  /** Leaves what is being left without a further search. */
  stop(): void {
    this.#stopping.abort(new Error('stopped'));
  }

  async #untilReplaced(isEnough: () => boolean): Promise<void> {
    const { clock, find, isCovered } = this.#deps;
    const { signal } = this.#stopping;
    while (!signal.aborted && !isEnough()) {
      await find();
      if (isCovered()) return;
      try {
        await sleep(clock, HANDOVER_PAUSE_MS, signal);
      } catch {
        return; // stop() was called
      }
    }
  }
}
