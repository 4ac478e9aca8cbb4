import type { Clock, CloseReason } from '../runtime/index.ts';
import type { AgentLink } from './agent-link.ts';

/** A revocation's notice follows the cut on the pipe within this, or tells of something older. */
const NOTICE_LAG_MS = 10_000;
/** Links kept to be counted then: as many as an agent may have. */
const MAX_LATELY_ENDED = 4_096;

type EndedLink = Pick<AgentLink, 'offer' | 'endReason' | 'streamsTaken'>;

/** Links that ended lately, oldest first: the notice of a revocation follows the cut that it made. */
export class LatelyEnded {
  readonly #clock: Clock;
  #ended: { readonly link: EndedLink; readonly endedMs: number }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(link: EndedLink): void {
    const endedMs = this.#clock.monotonicMs();
    this.#ended.push({ link, endedMs });
    this.#ended = this.#ended.filter((one) => endedMs - one.endedMs < NOTICE_LAG_MS).slice(-MAX_LATELY_ENDED);
  }

  /** These have been counted otherwise. */
  forget(links: readonly EndedLink[]): void {
    this.#ended = this.#ended.filter(({ link }) => !links.includes(link));
  }

  /** What a revocation of those links had already taken when its notice came; each link is counted once. */
  takenBy(isHit: (link: EndedLink) => boolean, reason: CloseReason): { links: number; streams: number } {
    const nowMs = this.#clock.monotonicMs();
    const taken = this.#ended
      .filter(({ endedMs }) => nowMs - endedMs < NOTICE_LAG_MS)
      .map(({ link }) => link)
      .filter((link) => isHit(link) && (link.endReason === undefined || link.endReason === reason));
    this.forget(taken);
    return { links: taken.length, streams: taken.reduce((sum, link) => sum + link.streamsTaken, 0) };
  }
}
