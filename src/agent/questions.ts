import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  AppError,
  type Clock,
  isAppError,
  type Logger,
  messageOf,
  type Timer,
  writeFileAtomically,
} from '../runtime/index.ts';
import { MAX_BUNDLE_BYTES } from './bundle-http.ts';
import type { AgentErrorCode } from './errors.ts';
import {
  ANSWER_PREFIX,
  answerPath,
  MAX_HEAD_BYTES,
  parseQuestion,
  type Question,
  QUESTION_FILE,
  QUESTION_MAX_AGE_MS,
  withdrawQuestion,
} from './question.ts';

const LOOK_PERIOD_MS = 500;
/** An answer that takes longer is given up; whoever asked is told. */
export const ANSWER_LIMIT_MS = 60_000;
/** The largest bundle, and the line before it. */
const MAX_QUESTION_BYTES = MAX_BUNDLE_BYTES + MAX_HEAD_BYTES;

export interface QuestionsDeps {
  readonly stateDir: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Answers with what is written as JSON; has to end soon after the signal. */
  readonly answer: (question: Question, signal: AbortSignal) => Promise<object>;
}

/** Answers what operators ask over the state directory, one question at a time, within a deadline. */
export class Questions {
  readonly #deps: QuestionsDeps;
  readonly #path: string;
  readonly #timer: Timer;
  readonly #closing = new AbortController();
  #answering: Promise<void> | undefined;

  constructor(deps: QuestionsDeps) {
    this.#deps = deps;
    this.#path = join(deps.stateDir, QUESTION_FILE);
    // Whoever asked an earlier process has gone, or will ask again.
    for (const name of readdirSync(deps.stateDir)) {
      if (name.startsWith(QUESTION_FILE) || name.startsWith(ANSWER_PREFIX))
        rmSync(join(deps.stateDir, name), { force: true });
    }
    this.#timer = deps.clock.every(LOOK_PERIOD_MS, () => this.#look()).unref();
  }

  /** What is being answered is given up. */
  async close(): Promise<void> {
    this.#timer.cancel();
    this.#closing.abort();
    await this.#answering;
  }

  #look(): void {
    if (this.#answering !== undefined || !existsSync(this.#path)) return;
    this.#answering = this.#serve()
      .catch((error: unknown) => {
        const { logger } = this.#deps;
        logger.error(
          { path: this.#path, cause: messageOf(error) },
          'a question of an operator was not answered',
        );
      })
      .finally(() => {
        this.#answering = undefined;
      });
  }

  async #serve(): Promise<void> {
    const { stateDir, clock, logger } = this.#deps;
    this.#sweep();
    const question = await this.#read();
    const { id, what, asked_at } = question;
    if (Math.abs(clock.nowMs() - Date.parse(asked_at)) > QUESTION_MAX_AGE_MS) {
      logger.warn({ id, what, asked_at }, 'a stale question of an operator was ignored');
    } else {
      const answer = await this.#answer(question);
      writeFileAtomically(answerPath(stateDir, id), `${JSON.stringify({ v: 1, id, ...answer })}\n`);
    }
    withdrawQuestion(stateDir, id);
  }

  /** What cannot be read is nobody's question, and taken away. */
  async #read(): Promise<Question> {
    try {
      const { size } = await stat(this.#path);
      if (size > MAX_QUESTION_BYTES) {
        throw new Error(`it has ${String(size)} bytes, the limit is ${String(MAX_QUESTION_BYTES)}`);
      }
      return parseQuestion(await readFile(this.#path));
    } catch (error) {
      rmSync(this.#path, { force: true });
      throw error;
    }
  }

  async #answer(question: Question): Promise<object> {
    const { clock, answer } = this.#deps;
    const deadline = new AbortController();
    const timer = clock.after(ANSWER_LIMIT_MS, () => deadline.abort());
    const signal = AbortSignal.any([deadline.signal, this.#closing.signal]);
    try {
      const given = await answer(question, signal);
      signal.throwIfAborted();
      return given;
    } catch (thrown) {
      const error = signal.aborted ? this.#givenUp() : thrown;
      const code = isAppError(error) ? error.code : 'ERR_AGENT_ASKED';
      return { error: { code, message: messageOf(error) } };
    } finally {
      timer.cancel();
    }
  }

  #givenUp(): AppError<AgentErrorCode> {
    const why = this.#closing.signal.aborted
      ? 'the agent is shutting down'
      : `it took longer than ${String(ANSWER_LIMIT_MS)} ms`;
    return new AppError('ERR_AGENT_ASKED', `given up: ${why}`);
  }

  /** Answers that nobody came for. */
  #sweep(): void {
    const { stateDir, clock } = this.#deps;
    for (const name of readdirSync(stateDir)) {
      const path = join(stateDir, name);
      if (name.startsWith(ANSWER_PREFIX) && clock.nowMs() - statSync(path).mtimeMs > QUESTION_MAX_AGE_MS)
        rmSync(path, { force: true });
    }
  }
}
