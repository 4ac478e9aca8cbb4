import { AppError, type Clock, messageOf } from '../../runtime/index.ts';

/** `skip`: not looked at, and why. A warning changes no exit code. */
export type LineState = 'pass' | 'warn' | 'fail' | 'skip';

/** One thing that was looked at. */
export interface Line {
  /** Word of docs/troubleshooting.md. */
  readonly check: string;
  /** What of it: a host and port, a connection, a file. */
  readonly subject: string;
  readonly state: LineState;
  readonly detail: string;
  /** What to do; with every `warn` and `fail`. */
  readonly remedy?: string;
  /** Something that this host needs did not answer: exit code 3 when nothing worse was found. */
  readonly isOutOfReach?: boolean;
}

/** Longest time that one check may take, milliseconds; its parts have limits of their own, which are shorter. */
export const CHECK_LIMIT_MS = 20_000;

/** The lines of one check, made one by one. */
export class Lines {
  readonly #check: string;
  readonly #subject: string;
  readonly all: Line[] = [];

  constructor(check: string, subject: string) {
    this.#check = check;
    this.#subject = subject;
  }

  #add(state: LineState, detail: string, more: Partial<Line> = {}): this {
    this.all.push({ check: this.#check, subject: this.#subject, state, detail, ...more });
    return this;
  }

  pass(detail: string): this {
    return this.#add('pass', detail);
  }

  warn(detail: string, remedy: string): this {
    return this.#add('warn', detail, { remedy });
  }

  fail(detail: string, remedy: string): this {
    return this.#add('fail', detail, { remedy });
  }

  /** A failure because somebody does not answer. */
  away(detail: string, remedy: string): this {
    return this.#add('fail', detail, { remedy, isOutOfReach: true });
  }

  skip(detail: string): this {
    return this.#add('skip', detail);
  }
}

/** One check: what it looks at, and how. */
export interface Check {
  readonly check: string;
  readonly subject: string;
  run(signal: AbortSignal): Promise<readonly Line[]>;
}

/** A check of one subject. */
export const checkOf = (
  check: string,
  subject: string,
  run: (lines: Lines, signal: AbortSignal) => Promise<void> | void,
): Check => ({
  check,
  subject,
  async run(signal) {
    const lines = new Lines(check, subject);
    await run(lines, signal);
    return lines.all;
  },
});

/** Runs a check within `CHECK_LIMIT_MS`; what it throws is a failed line. Never rejects. */
export const runCheck = async (one: Check, clock: Clock): Promise<readonly Line[]> => {
  const late = new AbortController();
  const failed = (detail: string): readonly Line[] => [
    {
      check: one.check,
      subject: one.subject,
      state: 'fail',
      detail,
      remedy: 'look at what stands there, and run doctor again',
      isOutOfReach: true,
    },
  ];
  let timer: { cancel(): void } | undefined;
  const limit = new Promise<readonly Line[]>((resolve) => {
    timer = clock.after(CHECK_LIMIT_MS, () => {
      late.abort();
      resolve(failed(`not done within ${String(CHECK_LIMIT_MS / 1_000)} s`));
    });
  });
  try {
    return await Promise.race([one.run(late.signal), limit]);
  } catch (thrown) {
    return failed(thrown instanceof AppError ? `${messageOf(thrown)} (${thrown.code})` : messageOf(thrown));
  } finally {
    timer?.cancel();
  }
};
