import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EnginePool, EvaluationOutcome } from '../../../src/policy/engine/pool.ts';
import type { PastDecision } from '../../../src/policy/index.ts';
import { MAX_EVALUATING, MAX_RETRIES, Replay } from '../../../src/policy/replay/replay.ts';

const past = (number: number): PastDecision => ({
  eventId: `e${String(number)}`,
  at: '2027-03-30T10:00:00.000Z',
  action: 'stream',
  connection: 'orders-db',
  allow: false,
  decidedBy: 'policy',
  rule: null,
  rules: { publish: [], stream: [] },
  reasons: ['no_rule'],
  input: JSON.stringify({
    connection: { name: 'orders-db' },
    target: { host: 'sql01', port: 1433 },
    listener: { principal: 'defaultListener' },
  }),
  addresses: ['10.1.2.3'],
  allowedAddresses: [],
  count: 1,
});

test('a page waits for the engine in parts, so that no decision of a slow draft waits too long, in order', async () => {
  let evaluating = 0;
  let most = 0;
  const engine: Pick<EnginePool, 'evaluate'> = {
    evaluate: async (): Promise<EvaluationOutcome> => {
      evaluating += 1;
      most = Math.max(most, evaluating);
      await new Promise((resolve) => setImmediate(resolve));
      evaluating -= 1;
      return { kind: 'failed', reason: 'policy_error', detail: 'none', evalUs: 1 };
    },
  };
  const told: string[] = [];
  const replay = new Replay(engine, ({ eventId }) => told.push(eventId));
  const page = Array.from({ length: 4 * MAX_EVALUATING + 1 }, (_, number) => past(number));
  await replay.run(page);
  assert.deepEqual(
    told,
    page.map(({ eventId }) => eventId),
  );
  assert.equal(most, MAX_EVALUATING);
});

/** Replays one decision with an engine that gives these answers in turn, the last one for ever. */
const replayOne = async (...answers: EvaluationOutcome[]): Promise<{ counts: object; asked: number }> => {
  let asked = 0;
  const evaluate = (): Promise<EvaluationOutcome> => {
    const answer = answers[Math.min(asked, answers.length - 1)];
    asked += 1;
    return answer === undefined ? Promise.reject(new Error('no answer')) : Promise.resolve(answer);
  };
  const replay = new Replay({ evaluate }, () => undefined);
  await replay.run([past(1)]);
  const { same, error } = replay.counts;
  return { counts: { same, error }, asked };
};

test('an evaluation that ran out of time is made again, so that a busy machine is no finding; a loop still is one', async () => {
  const late = { kind: 'failed', reason: 'policy_timeout', detail: 'ran over 100 ms', evalUs: 1 } as const;
  const verdict = {
    ...{ allow: false, rule: null, rules: { publish: [], stream: [] }, recheck_at: null },
    ...{ reasons: [{ code: 'no_rule', args: {} }], obligations: { recheck_seconds: 60 } },
  };
  const denied: EvaluationOutcome = { kind: 'verdicts', verdicts: [verdict], evalUs: 1 };
  assert.deepEqual(await replayOne(late, denied), { counts: { same: 1, error: 0 }, asked: 2 });
  assert.deepEqual(await replayOne(late), { counts: { same: 0, error: 1 }, asked: 1 + MAX_RETRIES });
  const threw = { ...late, reason: 'policy_error' } as const;
  assert.deepEqual(await replayOne(threw), { counts: { same: 0, error: 1 }, asked: 1 });
});
