import {
  AppError,
  environment,
  EXIT,
  runUntilSignal,
  silentLogger,
  systemClock,
} from '../../runtime/index.ts';
import type { Publication } from '../deploy/publication.ts';
import type { Output } from '../output.ts';
import { SELF_TEST_CONNECTION, type UpOptions } from './options.ts';
import { type EchoTarget, startEchoTarget } from './probe.ts';
import { UpRun } from './run.ts';
import { showScreen } from './screen.ts';
import type { SelfTestResult } from './self-test.ts';

/** Everything is stopped within this, in order, whatever the parts do (interfaces.md). */
const STOP_DEADLINE_MS = 10_000;

/** `npm start` passes no signal on when it is ended from outside. A script of somebody's own that starts `up` is left alone. */
const isStartedByNpm = (): boolean => environment['npm_lifecycle_script']?.includes('sallyport up') === true;

/** Starts, waits (for a signal, or for the self-test), stops. Returns the self-test's result if there was one. */
const run = async (
  options: UpOptions,
  output: Output,
  target: EchoTarget | undefined,
): Promise<SelfTestResult | undefined> => {
  const clock = systemClock;
  const startedMs = clock.monotonicMs();
  const extra: Publication[] =
    target === undefined
      ? []
      : [{ name: SELF_TEST_CONNECTION, target: { host: '127.0.0.1', port: target.port } }];
  const up = new UpRun({ options, extra, output, clock });
  let failure: unknown;
  let result: SelfTestResult | undefined;
  let stopping = false;
  const work = async (): Promise<string> => {
    const ready = await up.start();
    output.progress(undefined);
    if (target === undefined) {
      showScreen(output, ready, clock.monotonicMs() - startedMs);
      output.document(ready);
      return up.failed;
    }
    const { runSelfTest } = await import('./self-test.ts');
    result = await Promise.race([runSelfTest(ready, clock, output), up.failed]);
    return 'self-test done';
  };
  const ended = work().catch((error: unknown) => {
    if (!stopping) failure = error;
    return 'failed';
  });
  await runUntilSignal({
    clock,
    logger: silentLogger,
    deadlineMs: STOP_DEADLINE_MS,
    stopWithParent: isStartedByNpm(),
    ended,
    onReload: () => undefined,
    onStop: async (cause) => {
      stopping = true;
      output.progress(undefined);
      if (cause !== 'ended') output.note('stopping: gateway, agent, relay, database');
      await up.stop();
    },
  });
  // What was thrown is more to the point than that something ended.
  // eslint-disable-next-line @typescript-eslint/only-throw-error
  if (failure !== undefined) throw failure;
  return result;
};

/** The whole of `sallyport up`. */
export const runUp = async (options: UpOptions, output: Output): Promise<void> => {
  const target = options.selfTest ? await startEchoTarget() : undefined;
  try {
    const result = await run(options, output, target);
    if (result !== undefined) (await import('./self-test.ts')).showSelfTest(output, result);
    if (result?.ok === false) output.exitWith(EXIT.notSo);
    if (options.selfTest && result === undefined) {
      throw new AppError('ERR_CLI_CHILD', 'stopped before the self-test was done');
    }
  } finally {
    await target?.close();
  }
};
