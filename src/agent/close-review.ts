import type { CloseReview, Decider, Decision, PolicyInputBase } from '../policy/index.ts';
import type { LiveStream, LiveStreams } from './live-streams.ts';
import { RECHECK_BATCH } from './rechecker.ts';

/** An activation that would close no more live streams than this is never held. */
export const ALWAYS_CLOSED = 10;
const PERCENT = 100;

export interface CloseReviewDeps {
  readonly streams: LiveStreams;
  /** More than this share of the live streams, in percent, is held; 100 holds nothing. */
  readonly maxClosePercent: number;
  /** Re-evaluation as the rechecker does it, by the engine that is to be activated. */
  readonly decide: (candidate: Decider, base: PolicyInputBase) => Promise<Decision>;
}

/**
 * Counts the live streams that a candidate would close. An evaluation that fails counts as one: it would be cut after
 * some tries.
 */
export const reviewClosing = async (
  deps: CloseReviewDeps,
  candidate: Decider,
): Promise<CloseReview & { readonly isHeld: boolean }> => {
  const { streams, decide } = deps;
  const live = [...streams];
  const closes = async (stream: LiveStream): Promise<boolean> => {
    const decision = await decide(candidate, stream.base);
    return (
      !decision.allow || !stream.addresses.every((address) => decision.allowed_addresses.includes(address))
    );
  };
  let wouldClose = 0;
  for (let at = 0; at < live.length; at += RECHECK_BATCH) {
    const verdicts = await Promise.all(live.slice(at, at + RECHECK_BATCH).map(closes));
    wouldClose += verdicts.filter(Boolean).length;
  }
  const isHeld = wouldClose > ALWAYS_CLOSED && wouldClose * PERCENT > live.length * deps.maxClosePercent;
  return { wouldClose, live: live.length, isHeld };
};
