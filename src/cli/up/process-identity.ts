import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { AppError, type Clock, foreignCodeOf, sleep } from '../../runtime/index.ts';

/** A process that can be told from a later one with the same number. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When the system started it, in a form of the system's own; empty when unknown. */
  readonly started: string;
}

/** Field 22 of proc(5) stat, counted after the command's closing parenthesis. */
const START_FIELD = 19;
const POLL_MS = 25;

const startOf = (pid: number): string => {
  try {
    if (process.platform === 'linux') {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[START_FIELD] ?? '';
    }
    if (process.platform === 'win32') return '';
    return execFileSync('ps', ['-o', 'lstart=', '-p', String(pid)], { encoding: 'utf8' }).trim();
  } catch {
    return '';
  }
};

export const identityOf = (pid: number): ProcessIdentity => ({ pid, started: startOf(pid) });

/** Whether exactly this process still runs (a zombie does not). */
export const isAlive = (identity: ProcessIdentity): boolean => {
  try {
    process.kill(identity.pid, 0);
  } catch (error) {
    if (foreignCodeOf(error) !== 'EPERM') return false;
  }
  if (process.platform === 'linux') {
    try {
      const stat = readFileSync(`/proc/${identity.pid}/stat`, 'utf8');
      if (stat[stat.lastIndexOf(')') + 2] === 'Z') return false;
    } catch {
      return false;
    }
  }
  return identity.started === '' || startOf(identity.pid) === identity.started;
};

/** Sends a signal unless the process is gone. */
export const signal = (identity: ProcessIdentity, name: NodeJS.Signals): void => {
  if (!isAlive(identity)) return;
  try {
    process.kill(identity.pid, name);
  } catch (error) {
    if (foreignCodeOf(error) === 'ESRCH') return;
    throw new AppError(
      'ERR_CLI_STATE',
      `cannot stop process ${identity.pid}: ${foreignCodeOf(error) ?? ''}`,
      {
        cause: error,
      },
    );
  }
};

/** Waits for a process that is not our child. Resolves with whether it ended in time. */
export const waitForEnd = async (
  identity: ProcessIdentity,
  deadlineMs: number,
  clock: Clock,
): Promise<boolean> => {
  const untilMs = clock.monotonicMs() + deadlineMs;
  while (isAlive(identity)) {
    if (clock.monotonicMs() >= untilMs) return false;
    await sleep(clock, POLL_MS);
  }
  return true;
};
