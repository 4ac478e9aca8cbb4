import { type Clock, messageOf, sleep } from '../../runtime/index.ts';

const POLL_MS = 40;
const ANSWER_MS = 2_000;

/** What a status listener's `/readyz` says, or why it says nothing. */
export const readinessOf = async (
  statusUrl: string,
): Promise<{ ready: boolean; reasons: readonly string[] }> => {
  try {
    const response = await fetch(`${statusUrl}/readyz`, { signal: AbortSignal.timeout(ANSWER_MS) });
    const body = (await response.json()) as { ready?: boolean; reasons?: readonly string[] };
    return { ready: body.ready === true, reasons: body.reasons ?? [] };
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    return { ready: false, reasons: [cause === undefined ? messageOf(error) : messageOf(cause)] };
  }
};

/** Waits until a process says that a stream would work. Resolves with its last reasons when it never does. */
export const waitUntilReady = async (
  statusUrl: string,
  deadlineMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<{ ready: boolean; reasons: readonly string[] }> => {
  const untilMs = clock.monotonicMs() + deadlineMs;
  for (;;) {
    const answer = await readinessOf(statusUrl);
    if (answer.ready || signal.aborted || clock.monotonicMs() > untilMs) return answer;
    await sleep(clock, POLL_MS);
  }
};
