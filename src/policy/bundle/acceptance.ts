import { AppError } from '../../runtime/index.ts';
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

/** Why a vector's expectation does not hold, or undefined when it does. */
const runVector = async (engine: EnginePool, vector: Vector): Promise<string | undefined> => {
  const { input, expect } = vector;
  const request = {
    action: input.action,
    input: JSON.stringify(input),
    addresses: [input.target.address],
  };
  const outcome = await engine.evaluate(request, KIND, 'open');
  if (outcome.kind === 'failed') return `${outcome.reason}: ${outcome.detail}`;
  const verdict = outcome.verdicts[0];
  if (verdict?.allow !== expect.allow) return `allow is ${String(verdict?.allow)}`;
  if (expect.rule !== undefined && verdict.rule !== expect.rule) return `rule is ${String(verdict.rule)}`;
  const codes = new Set(verdict.reasons.map(({ code }) => code));
  const lacking = (expect.reasons ?? []).filter((code) => !codes.has(code));
  return lacking.length > 0 ? `reasons lack ${lacking.join(', ')}` : undefined;
};

/**
 * What every bundle must pass in its own engine before it decides anything: two plain questions under the
 * deadline, and its own vectors.
 * @throws AppError ERR_POLICY_CANARY, ERR_POLICY_VECTOR
 */
export const acceptBundle = async (engine: EnginePool, bundle: Bundle): Promise<void> => {
  await runCanary(engine, 'publish');
  await runCanary(engine, 'stream');
  for (const vector of bundle.vectors) {
    const failure = await runVector(engine, vector);
    if (failure === undefined) continue;
    throw new AppError<PolicyErrorCode>('ERR_POLICY_VECTOR', `vector '${vector.name}' fails: ${failure}`);
  }
};
