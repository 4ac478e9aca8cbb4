import { systemClock } from '../../runtime/index.ts';
import type { EngineProgram } from '../engine/messages.ts';
import { EnginePool } from '../engine/pool.ts';

/** Nothing competes with a command for its threads: whatever it asks may wait for one. */
const WAIT_MS = 60_000;

/**
 * Runs something with a bundle's own engine, by default under the budget that agents have; the threads end with it.
 * @param workers threads, at least two
 * @param budgetMs another budget than that of agents, milliseconds
 * @throws AppError ERR_POLICY_BUILTIN, ERR_POLICY_ENGINE
 */
export const withEngine = async <T>(
  { module, dataText, grantsText }: EngineProgram,
  run: (engine: EnginePool) => Promise<T>,
  workers?: number,
  budgetMs?: number,
): Promise<T> => {
  const engine = await EnginePool.open(
    { module, dataText, ...(grantsText === undefined ? {} : { grantsText }) },
    {
      clock: systemClock,
      openWaitMs: WAIT_MS,
      ...(workers === undefined ? {} : { workers }),
      ...(budgetMs === undefined ? {} : { budgetMs }),
    },
  );
  try {
    return await run(engine);
  } finally {
    await engine.close();
  }
};
