import { AppError, type ErrorCode, sleep, systemClock } from '../../runtime/index.ts';
import { z } from 'zod';
import type { CliErrorCode } from '../errors.ts';
import type { Output } from '../output.ts';
import { type AgentPlace, askStatus } from './agent-access.ts';

const LOOK_PERIOD_MS = 200;
/** The agent looks twice a second, and then has its own deadline. */
const GRACE_MS = 10_000;

const answerSchema = z.looseObject({
  error: z.object({ code: z.templateLiteral(['ERR_', z.string()]), message: z.string() }).optional(),
});

interface Refusal {
  readonly code: ErrorCode;
  readonly message: string;
}

const withRemedy = ({ code, message }: Refusal): string =>
  code === 'ERR_POLICY_UNSIGNED'
    ? `${message}; sign it first: \`sallyport policy sign BUNDLE --key KEY.pem --key-id ID -o SIGNED\``
    : message;

interface Asked {
  readonly what: 'preview' | 'shadow_start' | 'shadow_stop';
  readonly reason?: string;
  readonly bundle?: Buffer;
}

/**
 * Asks a running agent over its state directory and waits for the answer.
 * @throws AppError ERR_CLI_AGENT_UNREACHABLE when no agent runs or answers; ERR_AGENT_ASKED while it answers another;
 * whatever the agent says instead of an answer, under its own code
 */
export const askQuestion = async (place: AgentPlace, asked: Asked, output: Output): Promise<unknown> => {
  const { ANSWER_LIMIT_MS, askAgent, takeAnswer, withdrawQuestion } = await import('../../agent/index.ts');
  await askStatus(place);
  const id = askAgent(place.stateDir, asked, systemClock);
  const untilMs = systemClock.monotonicMs() + ANSWER_LIMIT_MS + GRACE_MS;
  try {
    while (systemClock.monotonicMs() < untilMs) {
      output.progress('waiting for the agent …');
      await sleep(systemClock, LOOK_PERIOD_MS);
      const answer = takeAnswer(place.stateDir, id);
      if (answer === undefined) continue;
      const { error } = answerSchema.parse(answer);
      if (error !== undefined) throw new AppError<ErrorCode>(error.code, withRemedy(error));
      return answer;
    }
  } finally {
    output.progress(undefined);
    withdrawQuestion(place.stateDir, id);
  }
  throw new AppError<CliErrorCode>(
    'ERR_CLI_AGENT_UNREACHABLE',
    `the agent of ${place.stateDir} did not answer; run this as the agent's user, its log may say more`,
  );
};
