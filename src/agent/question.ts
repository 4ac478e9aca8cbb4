import {
  closeSync,
  linkSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import {
  AppError,
  type Clock,
  foreignCodeOf,
  makePrivateDirectory,
  PRIVATE_FILE_MODE,
  uuidv7,
} from '../runtime/index.ts';
import type { AgentErrorCode } from './errors.ts';

/** One at a time: while the file is there, it is asked and not yet answered. */
export const QUESTION_FILE = 'policy.question';
export const ANSWER_PREFIX = 'policy.answer.';
/** A question that is older is nobody's any more, and neither is an answer. */
export const QUESTION_MAX_AGE_MS = 120_000;

const LINE_END = 0x0a;
/** The line before the bundle. */
export const MAX_HEAD_BYTES = 4_096;
/** Longest reason, in UTF-16 code units: it fits in the line whatever it is. */
const MAX_REASON = 500;

const headSchema = z.object({
  v: z.literal(1),
  id: z.uuid(),
  what: z.enum(['preview', 'shadow_start', 'shadow_stop']),
  reason: z.string().max(MAX_REASON).optional(),
  asked_at: z.iso.datetime(),
});
type Head = z.output<typeof headSchema>;

/** What an operator asks of the agent of a state directory, with a bundle where it is about one. */
export interface Question extends Head {
  readonly bundle: Buffer;
}

/** Reads a question: a line of JSON, then the bytes of the bundle. @throws Error when it is none */
export const parseQuestion = (content: Buffer): Question => {
  const end = content.indexOf(LINE_END);
  const head = headSchema.parse(JSON.parse(content.subarray(0, Math.max(0, end)).toString('utf8')));
  return { ...head, bundle: content.subarray(end + 1) };
};

export const answerPath = (stateDir: string, id: string): string =>
  join(stateDir, `${ANSWER_PREFIX}${id}.json`);

const withdrawStale = (path: string, clock: Clock): void => {
  try {
    if (Math.abs(clock.nowMs() - statSync(path).mtimeMs) > QUESTION_MAX_AGE_MS) rmSync(path, { force: true });
  } catch (error) {
    if (foreignCodeOf(error) !== 'ENOENT') throw error;
  }
};

/**
 * Puts a question to the agent of this state directory, which only its own user may write.
 * @returns its id, which the answer is fetched by
 * @throws AppError ERR_AGENT_ASKED while another question is being answered
 */
export const askAgent = (
  stateDir: string,
  question: Pick<Question, 'what'> & Partial<Pick<Question, 'reason' | 'bundle'>>,
  clock: Clock,
): string => {
  makePrivateDirectory(stateDir);
  const { what, reason, bundle = Buffer.alloc(0) } = question;
  const id = uuidv7(clock);
  const asked_at = new Date(clock.nowMs()).toISOString();
  const head: Head = { v: 1, id, what, asked_at, ...(reason === undefined ? {} : { reason }) };
  const path = join(stateDir, QUESTION_FILE);
  const written = `${path}.${id}.tmp`;
  if (reason !== undefined && reason.length > MAX_REASON) {
    throw new AppError<AgentErrorCode>(
      'ERR_AGENT_ASKED',
      `the reason has ${String(reason.length)} characters, the limit is ${String(MAX_REASON)}`,
    );
  }
  withdrawStale(path, clock);
  try {
    writeFileSync(written, Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), bundle]), {
      flag: 'wx',
      mode: PRIVATE_FILE_MODE,
    });
    // Whole at once, and never over another's.
    linkSync(written, path);
  } catch (cause) {
    if (foreignCodeOf(cause) !== 'EEXIST') throw cause;
    throw new AppError<AgentErrorCode>(
      'ERR_AGENT_ASKED',
      'the agent is answering another policy diff --live or policy shadow; try again when it has',
      { cause, retryable: true },
    );
  } finally {
    rmSync(written, { force: true });
  }
  return id;
};

/** The answer, once it is there; it is taken away. */
export const takeAnswer = (stateDir: string, id: string): unknown => {
  const path = answerPath(stateDir, id);
  try {
    const answer: unknown = JSON.parse(readFileSync(path, 'utf8'));
    rmSync(path, { force: true });
    return answer;
  } catch (error) {
    if (foreignCodeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
};

/** Takes a question away: it is answered, or nobody waits for the answer any more. Another's stays. */
export const withdrawQuestion = (stateDir: string, id: string): void => {
  const path = join(stateDir, QUESTION_FILE);
  try {
    const file = openSync(path, 'r');
    const head = Buffer.alloc(MAX_HEAD_BYTES);
    try {
      readSync(file, head);
    } finally {
      closeSync(file);
    }
    if (parseQuestion(head).id === id) rmSync(path, { force: true });
  } catch (error) {
    if (foreignCodeOf(error) !== 'ENOENT') throw error;
  }
};
