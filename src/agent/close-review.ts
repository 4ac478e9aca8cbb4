import type { CloseReview, Decider, Decision, PolicyInputBase } from '../policy/index.ts';
import type { LiveStream, LiveStreams } from './live-streams.ts';
import { RECHECK_BATCH } from './rechecker.ts';
import type { Turns } from './turns.ts';

/** An activation that would close no more live streams than this is never held. */
export const ALWAYS_CLOSED = 10;
const PERCENT = 100;

export interface CloseReviewDeps {
  readonly streams: LiveStreams;
  readonly turns: Turns;
  /** More than this share of the live streams, in percent, is held; 100 holds nothing. */
  readonly maxClosePercent: number;
  /** Re-evaluation as the rechecker does it, by the engine that is to be activated. */
  readonly decide: (candidate: Decider, base: PolicyInputBase) => Promise<Decision>;
}

/**
 * Counts the live streams that a candidate would close. An evaluation that fails counts as one: it would be cut after
 * some tries.
 * @param onVerdict told of each of them whether it would be closed, with the decision
 */
export const reviewClosing = async (
  deps: CloseReviewDeps,
  candidate: Decider,
  onVerdict: (stream: LiveStream, closes: boolean, decision: Decision) => void,
): Promise<CloseReview & { readonly isHeld: boolean }> => {
  const { streams, decide, turns } = deps;
  const live = [...streams];
  const closes = async (stream: LiveStream): Promise<boolean> => {
    const decision = await turns.run(() => decide(candidate, stream.base));
    const { allowed_addresses: allowed } = decision;
    const wouldClose = !decision.allow || !stream.addresses.every((address) => allowed.includes(address));
    onVerdict(stream, wouldClose, decision);
    return wouldClose;
  };
  let wouldClose = 0;
  for (let at = 0; at < live.length; at += RECHECK_BATCH) {
    const verdicts = await Promise.all(live.slice(at, at + RECHECK_BATCH).map(closes));
    wouldClose += verdicts.filter(Boolean).length;
  }
  const isHeld = wouldClose > ALWAYS_CLOSED && wouldClose * PERCENT > live.length * deps.maxClosePercent;
  return { wouldClose, live: live.length, isHeld };
};

/** The review of an activation: each stream remembers it, so that those it closes are the first to be re-evaluated. */
export const reviewActivation = (
  deps: CloseReviewDeps,
  candidate: Decider,
): ReturnType<typeof reviewClosing> =>
  reviewClosing(deps, candidate, (stream, closes) => {
    stream.wouldClose = closes;
  });
