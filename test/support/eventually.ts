/** Only what fails waits so long: a machine under other people's load takes twenty times what a quiet one does. */
const DEFAULT_DEADLINE_MS = 60_000;
const RETRY_MS = 25;

/**
 * Tries until it neither throws nor returns undefined: for what other processes do, which tell us nothing.
 * Rejects with the last error after the deadline.
 */
export const eventually = async <T>(
  what: string,
  attempt: () => Promise<T | undefined> | T | undefined,
  deadlineMs: number = DEFAULT_DEADLINE_MS,
): Promise<T> => {
  const until = performance.now() + deadlineMs;
  let last: unknown;
  for (;;) {
    try {
      const result = await attempt();
      if (result !== undefined) return result;
      last = new Error('not yet');
    } catch (error) {
      last = error;
    }
    if (performance.now() > until) {
      const detail = last instanceof Error ? last.message : String(last);
      throw new Error(`${what}: not within ${deadlineMs} ms (${detail})`, { cause: last });
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
};
