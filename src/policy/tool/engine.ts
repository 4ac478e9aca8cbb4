import { systemClock } from '../../runtime/index.ts';
import type { Bundle } from '../bundle/bundle.ts';
import { EnginePool } from '../engine/pool.ts';

/** A command asks one thing after the other: nothing else competes for the threads, so it may wait for one. */
const WAIT_MS = 10_000;

/**
 * Runs something with a bundle's own engine, under the budget that agents have; the threads end with it.
 * @throws AppError ERR_POLICY_BUILTIN, ERR_POLICY_ENGINE
 */
export const withEngine = async <T>(
  { module, dataText }: Pick<Bundle, 'module' | 'dataText'>,
  run: (engine: EnginePool) => Promise<T>,
): Promise<T> => {
  const engine = await EnginePool.open({ module, dataText }, { clock: systemClock, openWaitMs: WAIT_MS });
  try {
    return await run(engine);
  } finally {
    await engine.close();
  }
};
