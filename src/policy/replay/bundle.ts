import { availableParallelism } from 'node:os';
import { readBundle } from '../bundle/bundle.ts';
import type { DecisionBundle } from '../decision.ts';
import { withEngine } from '../tool/engine.ts';
import type { ChangedDecision, PastDecision } from './recorded.ts';
import { Replay, type ReplayCounts } from './replay.ts';

/**
 * Replays through the engine of a bundle, on as many threads as the machine has cores. `feed` hands over pages, in order,
 * one after the other.
 * @param grantsText JSON of grants that take the place of the bundle's
 * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE, ERR_POLICY_BUILTIN, ERR_POLICY_ENGINE, ERR_POLICY_REPLAY
 */
export const replayBundle = async (
  bytes: Buffer,
  onChange: (changed: ChangedDecision) => void,
  feed: (run: (page: readonly PastDecision[]) => Promise<void>) => Promise<void>,
  grantsText?: string,
): Promise<{ readonly bundle: DecisionBundle; readonly counts: ReplayCounts }> => {
  const bundle = await readBundle(bytes);
  const { sha256, revision, sequence } = bundle;
  const counts = await withEngine(
    { ...bundle, ...(grantsText === undefined ? {} : { grantsText }) },
    async (engine) => {
      const replay = new Replay(engine, onChange);
      await feed((page) => replay.run(page));
      return replay.counts;
    },
    availableParallelism(),
  );
  return { bundle: { sha256, revision, sequence }, counts };
};
