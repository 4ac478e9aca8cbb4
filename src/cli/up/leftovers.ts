import type { Clock } from '../../runtime/index.ts';
import { isAlive, type ProcessIdentity, signal, waitForEnd } from './process-identity.ts';

/** Processes of a killed `up` see its end by themselves; they get this long to close. */
const PATIENCE_MS = 4_000;
const KILL_MS = 2_000;

/** Waits for the processes that an earlier start left behind, and ends those that stay. */
export const endLeftovers = async (
  processes: readonly ProcessIdentity[],
  clock: Clock,
  note: (text: string) => void,
): Promise<void> => {
  const alive = processes.filter(({ started }) => started !== '').filter(isAlive);
  if (alive.length === 0) return;
  note(`an earlier start was cut off; waiting for its ${alive.length} processes to end`);
  await Promise.all(
    alive.map(async (identity) => {
      if (await waitForEnd(identity, PATIENCE_MS, clock)) return;
      signal(identity, 'SIGKILL');
      await waitForEnd(identity, KILL_MS, clock);
    }),
  );
};
