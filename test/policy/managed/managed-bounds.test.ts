import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  decideWithin,
  managedDenial,
  ManagedSettings,
  parseManaged,
  type PolicyInputBase,
} from '../../../src/policy/index.ts';
import { compileOrders, keyOf, openGuard, openHost, streamInput } from '../support.ts';
import { publicKeyPem } from './signing-key.ts';

const SHA = 'ab'.repeat(32);
const settings = (text: string): ManagedSettings => ManagedSettings.inForce(parseManaged(text, 'f'), SHA);
const within = (text: string) => ({ guard: openGuard, managed: settings(text) });
const detailOf = (decision: { reasons: readonly { args: Readonly<Record<string, unknown>> }[] }): unknown =>
  decision.reasons[0]?.args.detail;

test('a bundle that allows cannot widen what is designated', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const evaluated = host.status().engine?.evaluated;
  const denied = await decideWithin(host, streamInput(), within('designated: [10.2.0.0/16:1433]'));
  assert.equal(denied.allow, false);
  assert.equal(denied.decided_by, 'managed');
  assert.equal(denied.reason, 'managed_denied');
  assert.deepEqual(denied.reasons, [
    { code: 'managed_denied', args: { address: '10.1.2.3', detail: 'not_designated' } },
  ]);
  assert.deepEqual(denied.candidates, [
    { address: '10.1.2.3', verdict: 'managed', reasons: ['managed_denied'] },
  ]);
  assert.deepEqual(denied.allowed_addresses, []);
  assert.equal(denied.managed_sha256, SHA);
  assert.equal(host.status().engine?.evaluated, evaluated, 'the engine was not asked');

  const allowed = await decideWithin(host, streamInput(), within('designated: [10.1.0.0/16:1433]'));
  assert.equal(allowed.allow, true);
  assert.equal(allowed.decided_by, 'policy');
  assert.equal(allowed.managed_sha256, SHA);
});

test('what is designated is not thereby allowed', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const base = streamInput({ key: keyOf('stranger') });
  const decision = await decideWithin(host, base, within('designated: [10.1.0.0/16:1433]'));
  assert.equal(decision.allow, false);
  assert.equal(decision.decided_by, 'policy');
  const target = { host: 'sql01.corp.example', port: 1433, addresses: ['169.254.169.254'] };
  const guarded = await decideWithin(
    host,
    streamInput({ target }),
    within('designated: [0.0.0.0/0:1433, sql01.corp.example:1433]'),
  );
  assert.equal(guarded.decided_by, 'guard');
});

test('of several addresses only the designated ones are left, each with its verdict', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const addresses = ['10.1.0.1', '10.1.9.1', '10.2.0.1', '169.254.1.1'];
  const target = { host: 'sql01.corp.example', port: 1433, addresses };
  const decision = await decideWithin(
    host,
    streamInput({ target }),
    within('designated: [10.1.0.0/24:1433, 10.2.0.0/24:1433]'),
  );
  assert.equal(decision.allow, true);
  assert.deepEqual(decision.allowed_addresses, ['10.1.0.1']);
  assert.deepEqual(
    decision.candidates.map(({ verdict }) => verdict),
    ['allowed', 'managed', 'denied', 'guard'],
  );
});

test('each setting refuses by itself, publishing as well as streams', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const base = { ...streamInput(), action: 'publish' as const };
  // Keys, source, link and stream are of streams only.
  const publish = Object.fromEntries(
    Object.entries(base).filter(([name]) => !['key', 'source', 'link', 'stream'].includes(name)),
  ) as unknown as PolicyInputBase;
  for (const [text, detail] of [
    ['connections: disabled', 'connections_disabled'],
    ['relays: [other.example]', 'relay_not_listed'],
    ['relays: []', 'relay_not_listed'],
    ['designated: []', 'not_designated'],
    ['minimum_sequence: 8', 'minimum_sequence'],
  ] as const) {
    for (const base of [streamInput(), publish]) {
      const decision = await decideWithin(host, base, within(text));
      assert.equal(decision.decided_by, 'managed', text);
      assert.equal(decision.reason, 'managed_denied', text);
      assert.equal(detailOf(decision), detail);
    }
  }
  for (const text of ['connections: enabled', 'relays: [N1.]', 'minimum_sequence: 7']) {
    assert.equal((await decideWithin(host, streamInput(), within(text))).allow, true, text);
  }
});

test('settings that were refused allow nothing', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const bounds = { guard: openGuard, managed: ManagedSettings.refused };
  const decision = await decideWithin(host, streamInput(), bounds);
  assert.equal(decision.decided_by, 'managed');
  assert.equal(detailOf(decision), 'settings_refused');
  assert.equal(decision.managed_sha256, undefined);
});

test('another source or other keys than are required decide nothing', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const pem = publicKeyPem();
  const key = { id: 'a', algorithm: 'ES256' as const, public_key: pem };
  const keyText = `signing_keys: [{id: a, algorithm: ES256, public_key: ${JSON.stringify(pem)}}]`;
  for (const [text, policyInUse, detail] of [
    ['bundle: {file: /b}', { source: '/b', keys: [] }, undefined],
    ['bundle: {file: /b}', { source: '/c', keys: [] }, 'bundle_source'],
    ['bundle: {file: /b}', { source: undefined, keys: [] }, 'bundle_source'],
    ['bundle: {url: "https://b.example/b"}', { source: '/b', keys: [] }, 'bundle_source'],
    [keyText, { source: '/b', keys: [] }, 'signing_keys'],
    [keyText, { source: '/b', keys: [{ ...key, public_key: publicKeyPem() }] }, 'signing_keys'],
    [keyText, { source: '/b', keys: [key, { ...key, id: 'b' }] }, 'signing_keys'],
    [keyText, { source: '/b', keys: [{ ...key, public_key: `${pem}\n` }] }, undefined],
  ] as const) {
    const decision = await decideWithin(host, streamInput(), { ...within(text), policyInUse });
    assert.equal(decision.allow, detail === undefined, text);
    if (detail !== undefined) assert.equal(detailOf(decision), detail);
  }
});

test('proof is required in code, whatever library a bundle has', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  // The input does not say it: only the code is left to refuse.
  const decision = await decideWithin(host, streamInput(), within('require_proof: true'));
  assert.equal(decision.decided_by, 'managed');
  assert.equal(decision.reason, 'proof_required');
  const base = streamInput();
  const proved = {
    ...base,
    key: { ...keyOf('orders-app'), proved_by: 'agent' as const },
    listener: { ...base.listener, proved_by: 'agent' as const },
  };
  assert.equal((await decideWithin(host, proved, within('require_proof: true'))).allow, true);
  const half = { ...proved, listener: base.listener };
  assert.equal((await decideWithin(host, half, within('require_proof: true'))).reason, 'proof_required');
});

test('a live stream is judged by the address that it uses, without the engine', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const target = { host: 'sql01.corp.example', port: 1433, addresses: ['10.1.0.1', '10.1.9.1'] };
  const base = streamInput({ target });
  const bounds = within('designated: [10.1.0.0/24:1433]');
  assert.equal(managedDenial(host, base, bounds, ['10.1.0.1']), undefined);
  const denied = managedDenial(host, base, bounds, ['10.1.9.1']);
  assert.equal(denied?.decided_by, 'managed');
  assert.equal(denied.reason, 'managed_denied');
  // While it dials it may use either.
  assert.equal(managedDenial(host, base, bounds, target.addresses)?.reason, 'managed_denied');
  // What the guard refuses is not theirs to cut.
  assert.equal(managedDenial(host, base, within('connections: enabled'), ['169.254.1.1']), undefined);
});
