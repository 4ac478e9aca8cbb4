import { systemClock } from '../../runtime/index.ts';
import type { Bundle } from '../bundle/bundle.ts';
import { EnginePool } from '../engine/pool.ts';

/** Nothing competes with a command for its threads: whatever it asks may wait for one. */
const WAIT_MS = 60_000;

/**
 * Runs something with a bundle's own engine, under the budget that agents have; the threads end with it.
 * @param workers threads, at least two
 * @throws AppError ERR_POLICY_BUILTIN, ERR_POLICY_ENGINE
 */
export const withEngine = async <T>(
  { module, dataText }: Pick<Bundle, 'module' | 'dataText'>,
  run: (engine: EnginePool) => Promise<T>,
  workers?: number,
): Promise<T> => {
  const engine = await EnginePool.open(
    { module, dataText },
    {
      clock: systemClock,
      openWaitMs: WAIT_MS,
      ...(workers === undefined ? {} : { workers }),
    },
  );
  try {
    return await run(engine);
  } finally {
    await engine.close();
  }
};
