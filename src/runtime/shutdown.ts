import type { Clock } from './clock.ts';
import { EXIT, type ExitCode, exitProcess } from './exit.ts';
import { messageOf } from './errors.ts';
import type { Logger } from './logger.ts';

export interface RunOptions {
  /** Drains and closes; called once, with what asked for it. */
  readonly onStop: (cause: StopCause) => Promise<void>;
  /** SIGHUP: re-reads what can change. Default: logged and ignored. */
  readonly onReload?: () => Promise<void> | void;
  /** After this long the process ends whatever is left open. */
  readonly deadlineMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Also stop when standard input ends: the parent that holds the other end has gone, however it went. */
  readonly stopWithStdin?: boolean;
  /** Also stop when the process that started this one is gone, for a parent that holds nothing open (npm). */
  readonly stopWithParent?: boolean;
  /** Also stop when this settles: something essential of the process itself has ended. */
  readonly ended?: Promise<string>;
}

/** How often it is looked whether the parent is still the same: nothing tells of its end. */
const PARENT_POLL_MS = 500;

export type StopCause = 'SIGINT' | 'SIGTERM' | 'parent' | 'ended';

/**
 * Keeps the process until a signal asks it to stop, then runs `onStop` under the deadline.
 * A second signal ends it at once. Resolves with the exit code: 0 after a clean stop, 1 when the process
 * ended by itself or did not stop in time.
 */
export const runUntilSignal = (options: RunOptions): Promise<ExitCode> => {
  const { clock, logger } = options;
  return new Promise((resolve) => {
    let stopping = false;
    const finish = (code: ExitCode): void => {
      for (const [signal, listener] of listeners) process.removeListener(signal, listener);
      resolve(code);
    };
    const stop = (cause: StopCause, detail?: string): void => {
      if (stopping) {
        if (cause === 'SIGINT' || cause === 'SIGTERM') {
          logger.warn({ cause }, 'second signal: ending without waiting');
          exitProcess(EXIT.notSo);
        }
        return;
      }
      stopping = true;
      logger.info({ cause, detail }, 'stopping');
      const deadline = clock.after(options.deadlineMs, () => {
        logger.error({ deadline_ms: options.deadlineMs }, 'did not stop in time: ending');
        exitProcess(EXIT.notSo);
      });
      options.onStop(cause).then(
        () => {
          deadline.cancel();
          finish(cause === 'ended' ? EXIT.notSo : EXIT.ok);
        },
        (error: unknown) => {
          deadline.cancel();
          logger.error({ err: messageOf(error) }, 'stopping failed');
          finish(EXIT.notSo);
        },
      );
    };
    const reload = (): void => {
      if (options.onReload === undefined) {
        logger.info('nothing to reload');
        return;
      }
      Promise.resolve(options.onReload()).then(
        () => logger.info('configuration read again'),
        (error: unknown) =>
          logger.error({ err: messageOf(error) }, 'reload refused; the old configuration stays'),
      );
    };
    const listeners: [NodeJS.Signals, () => void][] = [
      ['SIGINT', () => stop('SIGINT')],
      ['SIGTERM', () => stop('SIGTERM')],
      ['SIGHUP', reload],
    ];
    for (const [signal, listener] of listeners) process.on(signal, listener);
    if (options.stopWithStdin === true) {
      process.stdin.on('error', () => stop('parent'));
      process.stdin.on('end', () => stop('parent'));
      process.stdin.on('close', () => stop('parent'));
      process.stdin.resume();
    }
    if (options.stopWithParent === true) {
      const parent = process.ppid;
      const watch = clock.every(PARENT_POLL_MS, () => {
        if (process.ppid === parent) return;
        watch.cancel();
        stop('parent');
      });
      watch.unref();
    }
    options.ended
      ?.then((why) => stop('ended', why))
      .catch((error: unknown) => stop('ended', messageOf(error)));
  });
};
