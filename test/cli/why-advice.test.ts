import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CLOSE_REASON } from '../../src/runtime/index.ts';
import { adviceFor, REMEDIES } from '../../src/cli/why-advice.ts';

test('a denial by policy leads to the rules that were looked at, an author to his own rule', () => {
  const id = '0197a3c0-0000-7000-8000-000000000001';
  const denied = adviceFor('policy_denied', ['no_stream_rule'], id) ?? '';
  assert.match(denied, /out of its hours/);
  assert.match(denied, new RegExp(`policy explain --stream ${id}`));
  assert.match(
    adviceFor('policy_denied', ['policy:night'], id) ?? '',
    /^the deny rule night .*explain --stream/,
  );
  assert.doesNotMatch(adviceFor('policy_denied', ['no_stream_rule']) ?? '', /--stream/);
  assert.doesNotMatch(adviceFor('target_timeout', [], id) ?? '', /--stream/, 'nothing was decided there');
  assert.doesNotMatch(adviceFor('policy_changed') ?? '', /^a newer bundle/, 'hours end without one');
  assert.match(adviceFor('policy_changed') ?? '', /hours .* newer bundle, or the grants file/);
  assert.match(adviceFor('key_revoked') ?? '', /revoked: make another/);
});

test('a denial by the guard leads to its rule, and to what that rule can be told', () => {
  const of = (detail: string): string => adviceFor('guard_denied', [], null, detail) ?? '';
  assert.match(of('127.0.0.1: guard_denied loopback'), /`loopback` .*allow_loopback .*The guard/);
  assert.match(of('10.0.0.1: guard_denied audit_database'), /`audit_database` .*allow_audit_database/);
  assert.equal(of('169.254.0.1: guard_denied link_local'), REMEDIES.guard_denied);
  assert.match(REMEDIES.guard_denied ?? '', /docs\/policy\.md, The guard/);
});

/** Ends that are as they should be. */
const ORDERLY: readonly string[] = ['client_fin', 'target_fin'];

test('each way in which a stream or link ends has a remedy that says what to do', () => {
  assert.deepEqual(Object.keys(REMEDIES).sort(), Object.keys(CLOSE_REASON).sort());
  for (const [reason, remedy] of Object.entries(REMEDIES)) {
    if (ORDERLY.includes(reason)) assert.equal(remedy, null, reason);
    else assert.ok((remedy ?? '').length > 20, reason);
    assert.equal(adviceFor(reason), remedy);
  }
  assert.equal(
    new Set(Object.values(REMEDIES)).size,
    Object.keys(REMEDIES).length - ORDERLY.length + 1,
    'no two the same',
  );
  assert.equal(adviceFor('of_another_version'), null);
});
