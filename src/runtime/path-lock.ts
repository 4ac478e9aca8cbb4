import { type Clock, sleep } from './clock.ts';
import { type DirectoryLock, lockPath } from './directory-lock.ts';

const POLL_MS = 20;

/**
 * `lockPath`, tried again for up to `waitMs` while another process has it.
 * @returns undefined when another process still has it
 * @throws the system's error when the name cannot be bound
 */
export const waitForPathLock = async (
  path: string,
  purpose: string,
  clock: Clock,
  waitMs: number,
): Promise<DirectoryLock | undefined> => {
  const untilMs = clock.monotonicMs() + waitMs;
  for (;;) {
    const taken = await lockPath(purpose, path);
    if ('release' in taken) return taken;
    if (clock.monotonicMs() >= untilMs) return undefined;
    await sleep(clock, POLL_MS);
  }
};
