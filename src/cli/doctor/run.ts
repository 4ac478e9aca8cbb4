import { EXIT, type ExitCode, systemClock } from '../../runtime/index.ts';
import type { Output } from '../output.ts';
import { type Check, type Line, type LineState, runCheck } from './line.ts';

/** 1 when something is wrong; 3 when nothing is but that somebody does not answer. */
export const doctorExit = (lines: readonly Line[]): ExitCode => {
  const failed = lines.filter(({ state }) => state === 'fail');
  if (failed.length === 0) return EXIT.ok;
  return failed.every(({ isOutOfReach }) => isOutOfReach === true) ? EXIT.unreachable : EXIT.notSo;
};

const WORD_WIDTH = 4;

export const show = (output: Output, { state, check, subject, detail, remedy }: Line): void => {
  output.line(`${state.padEnd(WORD_WIDTH)}  ${check} ${subject}: ${detail}`);
  if (remedy !== undefined) output.line(`${' '.repeat(WORD_WIDTH)}  → ${remedy}`);
};

export const count = (lines: readonly Line[], state: LineState): number =>
  lines.filter((line) => line.state === state).length;

/** What `--json` has of the lines. */
export const linesDocument = (lines: readonly Line[]): object[] =>
  lines.map(({ state, check, subject, detail, remedy }) => ({
    check,
    subject,
    state,
    detail,
    remedy: remedy ?? null,
  }));

/** Runs checks beside each other, with progress on a terminal. */
export const runChecks = async (checks: readonly Check[], output: Output): Promise<readonly Line[]> => {
  const waiting = new Set(checks);
  const tell = (): void => {
    const [next] = waiting;
    output.progress(
      next &&
        `${String(waiting.size)} of ${String(checks.length)} checks left: ${next.check} ${next.subject}`,
    );
  };
  tell();
  const lines = await Promise.all(
    checks.map(async (one) => {
      const made = await runCheck(one, systemClock);
      waiting.delete(one);
      tell();
      return made;
    }),
  );
  output.progress(undefined);
  return lines.flat();
};
