import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Decided } from '../../src/agent/decided.ts';
import {
  compareDecisions,
  DifferenceWindow,
  DIFFERENCES_WRITTEN,
} from '../../src/agent/shadow-difference.ts';
import type { Decision } from '../../src/policy/index.ts';
import { keyOf, streamInput } from '../policy/support.ts';

const decision = (changes: Partial<Decision>): Decision =>
  ({
    allow: true,
    decided_by: 'policy',
    rule: 'r1',
    reasons: [],
    allowed_addresses: ['10.1.2.3'],
    obligations: { recheck_seconds: 60, max_seconds: 10 },
    eval_us: 1,
    ...changes,
  }) as Decision;

const denied = decision({ allow: false, rule: null, reasons: [{ code: 'no_rule', args: {} }] });

const decided = (principal: string): Decided => ({
  base: streamInput({ key: keyOf(principal) }),
  decision: decision({}),
  decisionId: `id of ${principal}`,
  subject: { principal },
});

test('what is a difference, what the same, and what allowed on other terms', () => {
  const active = decision({});
  for (const [shadow, expected] of [
    [decision({ reasons: [{ code: 'allowed_by', args: {} }] }), 'same'],
    [decision({ obligations: { max_seconds: 10, recheck_seconds: 60 } }), 'same'],
    [decision({ rule: 'r2' }), 'otherwise'],
    [decision({ allowed_addresses: [] }), 'otherwise'],
    [decision({ obligations: { recheck_seconds: 60 } }), 'otherwise'],
    [denied, 'would_deny'],
    [decision({ ...denied, decided_by: 'limit' }), 'would_deny'],
    [decision({ ...denied, decided_by: 'engine' }), 'error'],
  ] as const) {
    assert.equal(compareDecisions(active, shadow), expected, JSON.stringify(shadow));
  }
  assert.equal(compareDecisions(denied, decision({ ...denied, reasons: [] })), 'same');
  assert.equal(compareDecisions(denied, active), 'would_allow');
});

test('the first of a kind is written, the rest as one event, and of too many kinds only counts are kept', () => {
  const window = new DifferenceWindow();
  for (let at = 0; at < DIFFERENCES_WRITTEN; at += 1) {
    const first = window.admit(decided(`p${String(at)}`), denied, 'would_deny');
    assert.ok(typeof first === 'object');
    assert.equal(first.data.count, undefined);
    assert.equal(first.data.decision_id, `id of p${String(at)}`);
  }
  assert.equal(window.admit(decided('one more'), denied, 'would_deny'), 'unwritten');
  for (let at = 0; at < 3; at += 1)
    assert.equal(window.admit(decided('p0'), denied, 'would_deny'), 'counted');
  const held = window.release();
  assert.deepEqual(
    held.map(({ subject, data }) => [subject.principal, data.count]),
    [['p0', 3]],
  );
  assert.deepEqual(window.release(), []);
  assert.ok(typeof window.admit(decided('one more'), denied, 'would_deny') === 'object');
});
