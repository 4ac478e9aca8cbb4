import { AppError } from '../../runtime/index.ts';
import type { Verdict } from '../decision.ts';
import type { PolicyErrorCode } from '../errors.ts';
import type { EnginePool } from '../engine/pool.ts';
import { canonicalInput, type PolicyInputBase } from '../input.ts';
import type { Bundle, Vector } from './bundle.ts';

const KIND = 'acceptance';

const canary = (action: 'publish' | 'stream'): PolicyInputBase => {
  const party = { kind: 'sas', id: 'k_0', principal: 'canary', proved_by: 'relay' } as const;
  const base: PolicyInputBase = {
    v: 1,
    action,
    namespace: 'canary.invalid',
    connection: { name: 'canary', id: 'c_0', labels: {} },
    target: { host: 'canary.invalid', port: 9, addresses: ['192.0.2.1'] },
    listener: { ...party, claims: ['Listen'] },
    agent: { name: 'canary', instance: 'canary', labels: {}, version: '0' },
    relay: { node: 'canary' },
    usage: { connection: { streams: 0 }, agent: { streams: 0 } },
    managed: { require_proof: false },
    time: {
      unix_ms: 0,
      rfc3339: '1970-01-01T00:00:00Z',
      local: { date: '1970-01-01', weekday: 'thu', hour: 0, minute: 0, zone: 'UTC' },
    },
  };
  if (action === 'publish') return base;
  return {
    ...base,
    key: { ...party, claims: ['Send'] },
    source: { gateway: 'canary', gateway_proved: false },
    link: { id: 'canary', carrier: 'tcp' },
    stream: { id: 'canary', kind: 'tcp', attempt: 1 },
  };
};

const runCanary = async (engine: EnginePool, action: 'publish' | 'stream'): Promise<void> => {
  const request = { action, input: canonicalInput(canary(action)), addresses: ['192.0.2.1'] };
  const outcome = await engine.evaluate(request, KIND, 'open');
  if (outcome.kind === 'verdicts') return;
  throw new AppError<PolicyErrorCode>(
    'ERR_POLICY_CANARY',
    `the bundle does not answer a plain ${action} question: ${outcome.reason}: ${outcome.detail}`,
  );
};

/** What an engine said to a vector. */
export type Answer =
  | { readonly ok: true; readonly verdict: Verdict }
  /** No verdict: the stream would be denied. */
  | { readonly ok: false; readonly detail: string };

/** Asks the engine one vector; never rejects. Failures are the vector's own: they open no breaker for the others. */
export const askVector = async (
  engine: EnginePool,
  { name, input }: Pick<Vector, 'name' | 'input'>,
): Promise<Answer> => {
  const request = {
    action: input.action,
    input: JSON.stringify(input),
    addresses: [input.target.address],
  };
  const outcome = await engine.evaluate(request, `${KIND} ${name}`, 'open');
  if (outcome.kind === 'failed') return { ok: false, detail: `${outcome.reason}: ${outcome.detail}` };
  const verdict = outcome.verdicts[0];
  return verdict === undefined ? { ok: false, detail: 'no verdict' } : { ok: true, verdict };
};

/** Each way in which an answer is not what the vector's author expects; empty when it is. */
export const judgeAnswer = ({ expect }: Pick<Vector, 'expect'>, answer: Answer): string[] => {
  if (!answer.ok) return [answer.detail];
  const { allow, rule, reasons } = answer.verdict;
  const codes = new Set(reasons.map(({ code }) => code));
  const lacking = (expect.reasons ?? []).filter((code) => !codes.has(code));
  const problems: string[] = [];
  if (allow !== expect.allow) problems.push(`allow is ${String(allow)}`);
  if (expect.rule !== undefined && rule !== expect.rule) problems.push(`rule is ${String(rule)}`);
  if (lacking.length > 0) problems.push(`reasons lack ${lacking.join(', ')}`);
  return problems;
};

/** A vector without an answer is asked this often in all: a machine may be busy. */
const GRANTS_ATTEMPTS = 3;

const askPatiently = async (engine: EnginePool, vector: Vector): Promise<Answer> => {
  let answer = await askVector(engine, vector);
  for (let asked = 1; !answer.ok && asked < GRANTS_ATTEMPTS; asked += 1)
    answer = await askVector(engine, vector);
  return answer;
};

/**
 * What a grants file must pass in the engine of a bundle: two plain questions, and that nothing is allowed of which a
 * vector expects a denial. What vectors expect to be allowed binds the bundle with its own data and not the file: else
 * nobody could be taken out of it whom a vector names (docs/adr/0040).
 * @throws AppError ERR_POLICY_CANARY, ERR_POLICY_GRANTS
 */
export const acceptGrants = async (engine: EnginePool, bundle: Bundle, file: string): Promise<void> => {
  await runCanary(engine, 'publish');
  await runCanary(engine, 'stream');
  for (const vector of bundle.vectors) {
    if (vector.expect.allow) continue;
    const answer = await askPatiently(engine, vector);
    if (answer.ok && !answer.verdict.allow) continue;
    const what = answer.ok
      ? `'${answer.verdict.rule ?? ''}' allows it`
      : `it has no answer: ${answer.detail}`;
    throw new AppError<PolicyErrorCode>(
      'ERR_POLICY_GRANTS',
      `vector '${vector.name}' expects a denial, and with the grants of ${file} ${what}`,
    );
  }
};

/**
 * What every bundle must pass in its own engine before it decides anything: two plain questions under the
 * deadline, and its own vectors, with its own data.
 * @throws AppError ERR_POLICY_CANARY, ERR_POLICY_VECTOR
 */
export const acceptBundle = async (engine: EnginePool, bundle: Bundle): Promise<void> => {
  await runCanary(engine, 'publish');
  await runCanary(engine, 'stream');
  for (const vector of bundle.vectors) {
    const problems = judgeAnswer(vector, await askVector(engine, vector));
    if (problems.length === 0) continue;
    const failure = problems.join('; ');
    throw new AppError<PolicyErrorCode>('ERR_POLICY_VECTOR', `vector '${vector.name}' fails: ${failure}`);
  }
};
