import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isByRevocation, lostKeys, revocationsBehind } from '../../src/cli/why-revocation.ts';
import type { RevocationView } from '../../src/control/index.ts';

const AT = Date.parse('2026-01-05T10:00:00.000Z');
const after = (ms: number): string => new Date(AT + ms).toISOString();

const row = (over: Partial<RevocationView>): RevocationView => ({
  revocation_id: 'r-1',
  key_id: 'k_0a',
  agent: null,
  instance: null,
  kind: 'key_revoked',
  reason: 'leaked in a log',
  connection: 'orders',
  auth_rule: 'billing',
  slot: 'primary',
  actor: 't_01',
  created_at: after(0),
  effective_at: after(0),
  ...over,
});

const failure = {
  at: after(900),
  connection: 'orders',
  code: 'key_revoked',
  detail: 'key revoked',
  principal: null,
};

test('a stream that a revocation cut is told which key was revoked, when, by whom and why', () => {
  assert.deepEqual(revocationsBehind(failure, [row({})]), [
    `k_0a (orders/billing), ${after(0)}, by t_01: leaked in a log; \`sallyport revocation show r-1\``,
  ]);
});

test('revocations of another connection, auth-rule, kind or time are not named', () => {
  const others = [
    row({ connection: 'web' }),
    row({ kind: 'key_rotated' }),
    row({ effective_at: after(-120_000) }),
    row({ effective_at: after(120_000) }),
  ];
  assert.deepEqual(revocationsBehind(failure, others), []);
  const known = { ...failure, principal: 'reporting' };
  assert.deepEqual(revocationsBehind(known, [row({})]), [], 'the principal of the stream had another key');
  assert.equal(revocationsBehind({ ...failure, principal: 'billing' }, [row({})]).length, 1);
  const ofNamespace = row({
    connection: null,
    auth_rule: null,
    agent: 'site-a',
    key_id: null,
    kind: 'identity_revoked',
  });
  assert.match(
    revocationsBehind({ ...failure, code: 'identity_revoked' }, [ofNamespace])[0] ?? '',
    /^site-a, /,
  );
});

test('a login by a revoked key leads to that key alone, however long ago it was revoked', () => {
  const login = { ...failure, at: after(9e8), detail: 'key k_0b is no longer valid' };
  const found = revocationsBehind(login, [row({}), row({ key_id: 'k_0b', reason: '' })]);
  assert.equal(found.length, 1);
  assert.match(found[0] ?? '', /^k_0b .*by t_01; `sallyport revocation show/);
});

test('a denial by policy is no matter of revocations', () => {
  assert.equal(isByRevocation({ code: 'policy_denied' }), false);
  assert.equal(isByRevocation(failure), true);
});

test('where no gateway has a good key, the newest revoked ones of the connection are named', () => {
  const rows = [
    row({ connection: 'web', key_id: 'k_0f' }),
    row({ key_id: null, agent: 'site-a' }),
    ...['k_04', 'k_03', 'k_02', 'k_01'].map((key_id) => row({ key_id })),
  ];
  assert.deepEqual(
    lostKeys('orders', rows).map((text) => text.slice(0, 'k_04'.length)),
    ['k_04', 'k_03', 'k_02'],
  );
});
