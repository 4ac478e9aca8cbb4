import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import canonicalize from 'canonicalize';
import { decide, DEFAULT_BUNDLE_FILE, developmentBundle } from '../../src/policy/index.ts';
import { compileOrders, keyOf, openGuard, openHost, rawBundle, streamInput } from './support.ts';

const target = (...addresses: string[]): { host: string; port: number; addresses: string[] } => ({
  host: 'sql01.corp.example',
  port: 1433,
  addresses,
});

test('an allowed stream names its rule, obligations and when to ask again', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const decision = await decide(host, streamInput(), openGuard);
  assert.equal(decision.allow, true);
  assert.equal(decision.decided_by, 'policy');
  assert.equal(decision.reason, undefined);
  assert.equal(decision.rule, 'orders-app');
  assert.deepEqual(decision.rules, { publish: ['orders-publish'], stream: ['orders-app'] });
  assert.deepEqual(decision.obligations, { max_seconds: 3600, recheck_seconds: 60 });
  assert.equal(decision.recheck_at, '2027-03-31T00:00:00Z');
  assert.deepEqual(decision.allowed_addresses, ['10.1.2.3']);
  assert.equal(decision.input, canonicalize(streamInput()));
  assert.equal(decision.bundle?.sequence, 7);
  assert.equal(decision.generation, host.generation);
});

test('only allowed addresses may be dialled, in resolver order', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const addresses = target('10.2.0.1', '10.1.0.9', '169.254.1.1', '10.1.0.2');
  const decision = await decide(host, streamInput({ target: addresses }), openGuard);
  assert.deepEqual(decision.allowed_addresses, ['10.1.0.9', '10.1.0.2']);
  assert.deepEqual(
    decision.candidates.map(({ address, verdict }) => [address, verdict]),
    [
      ['10.2.0.1', 'denied'],
      ['10.1.0.9', 'allowed'],
      ['169.254.1.1', 'guard'],
      ['10.1.0.2', 'allowed'],
    ],
  );
});

test('the guard comes first: a name that resolves to guarded addresses only never reaches the engine', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const before = host.status().engine?.evaluated;
  const decision = await decide(
    host,
    streamInput({ target: target('169.254.169.254', '127.0.0.1') }),
    openGuard,
  );
  assert.equal(decision.allow, false);
  assert.equal(decision.decided_by, 'guard');
  assert.equal(decision.reason, 'guard_denied');
  assert.deepEqual(decision.allowed_addresses, []);
  assert.equal(host.status().engine?.evaluated, before);
});

test('our own listener is a loop', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const guard = { ...openGuard, ownListeners: [{ address: '10.1.2.3', port: 1433 }] };
  assert.equal((await decide(host, streamInput(), guard)).reason, 'loop');
});

test('a mapped address is decided, recorded and dialled as the IPv4 address it is', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const allowed = await decide(host, streamInput({ target: target('::ffff:10.1.2.3') }), openGuard);
  assert.deepEqual(allowed.allowed_addresses, ['10.1.2.3']);
  assert.ok(!allowed.input.includes('::ffff:'));
  const denied = await decide(host, streamInput({ target: target('::ffff:10.2.2.3') }), openGuard);
  assert.equal(denied.reason, 'policy_denied');
  const guarded = await decide(host, streamInput({ target: target('::ffff:169.254.169.254') }), openGuard);
  assert.equal(guarded.decided_by, 'guard');
});

test('no address at all is a denial', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const decision = await decide(host, streamInput({ target: target() }), openGuard);
  assert.equal(decision.allow, false);
  assert.equal(decision.reason, 'dns_failure');
});

test('obligations are the strictest over the addresses that may be dialled', async (t) => {
  const cap = (id: string, address: string, limits: string): string => `
# METADATA
# title: ${id}
# custom: {id: ${id}, owner: o, limits: ${limits}}
limits["orders-db"] contains rego.metadata.rule() if input.target.address == "${address}"
`;
  const rego = `package sallyport.allow
${cap('a', '10.1.0.1', '{max_seconds: 900, max_bytes: 10}')}${cap('b', '10.1.0.2', '{max_seconds: 70, recheck_seconds: 7}')}${cap('c', '10.2.0.1', '{max_seconds: 1}')}`;
  const host = await openHost(t, await compileOrders(t, { 'sallyport/allow/caps.rego': rego }));
  const addresses = target('10.1.0.1', '10.1.0.2', '10.2.0.1');
  const decision = await decide(host, streamInput({ target: addresses }), openGuard);
  assert.deepEqual(decision.obligations, { max_seconds: 70, max_bytes: 10, recheck_seconds: 7 });
});

test('a re-check says what changed: the grant ended, or the policy did', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const { time } = streamInput();
  const late = streamInput({ time: { ...time, rfc3339: '2027-03-31T00:00:00Z' } });
  assert.equal((await decide(host, late, openGuard, 'recheck')).reason, 'grant_expired');
  assert.equal((await decide(host, late, openGuard, 'open')).reason, 'policy_denied');
  const foreign = streamInput({ key: keyOf('stranger') });
  assert.equal((await decide(host, foreign, openGuard, 'recheck')).reason, 'policy_changed');
});

test('managed settings that demand proof deny what only the relay vouches for', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const decision = await decide(host, streamInput({ managed: { require_proof: true } }), openGuard);
  assert.equal(decision.reason, 'proof_required');
});

const broken: Readonly<Record<string, string>> = {
  'an undefined result':
    'publish := {"allow": false} if input.action == "x"\nstream := true if input.action == "x"',
  'a result of another type': 'publish := true\nstream := true',
  'allow as text': `publish := r
stream := r
r := {"allow": "true", "rule": "r", "rules": {"publish": [], "stream": []}, "reasons": [], "obligations": {}, "recheck_at": null}`,
  'an unknown obligation': `publish := r
stream := r
r := {"allow": true, "rule": "r", "rules": {"publish": [], "stream": []}, "reasons": [], "obligations": {"max": 1}, "recheck_at": null}`,
};

for (const [what, rego] of Object.entries(broken)) {
  test(`a bundle with ${what} is never activated`, async (t) => {
    const host = await openHost(t, await rawBundle(t, rego));
    assert.equal(host.status().rejected?.code, 'ERR_POLICY_CANARY');
    const decision = await decide(host, streamInput(), openGuard);
    assert.deepEqual([decision.allow, decision.decided_by, decision.reason], [false, 'engine', 'no_bundle']);
  });
}

test('a result that becomes undefined for one stream alone denies that one', async (t) => {
  const rego = `publish := r
stream := r if input.key.principal == "canary"
stream := r if input.key.principal == "orders-app"
r := {"allow": true, "rule": "r", "rules": {"publish": [], "stream": ["r"]}, "reasons": [], "obligations": {}, "recheck_at": null}`;
  const host = await openHost(t, await rawBundle(t, rego));
  assert.equal((await decide(host, streamInput(), openGuard)).allow, true);
  const decision = await decide(host, streamInput({ key: keyOf('stranger') }), openGuard);
  assert.deepEqual([decision.allow, decision.decided_by, decision.reason], [false, 'engine', 'policy_error']);
});

test('the development bundle allows exactly its targets, by the own keys of a connection', async (t) => {
  const bundle = developmentBundle(
    readFileSync(DEFAULT_BUNDLE_FILE),
    [
      { name: 'orders-db', host: 'sql01.corp.example', port: 1433 },
      { name: 'forbidden', host: 'sql01.corp.example', port: 1433 },
    ],
    { sequence: 3, forbidden: ['forbidden'] },
  );
  const host = await openHost(t, bundle);
  assert.equal(host.active?.sequence, 3);
  const ask = async (changes: object): Promise<boolean> =>
    (await decide(host, streamInput(changes), openGuard)).allow;
  assert.equal(await ask({ key: keyOf('defaultSender') }), true);
  assert.equal(await ask({ target: { ...target('10.1.2.3'), port: 1434 } }), false);
  assert.equal(await ask({ target: { ...target('10.1.2.3'), host: 'dc01' } }), false);
  assert.equal(await ask({ connection: { name: 'other', id: 'c', labels: {} } }), false);
  assert.equal(await ask({ key: keyOf('namespace/RootManageSharedAccessKey') }), false);
  const forbidden = { connection: { name: 'forbidden', id: 'c_2', labels: {} } };
  const refused = await decide(host, streamInput(forbidden), openGuard);
  assert.deepEqual(refused.reasons, [{ code: 'policy:development-forbidden', args: {} }]);
  const { key, source, link, stream, ...publish } = streamInput({ ...forbidden, action: 'publish' });
  assert.ok(key && source && link && stream);
  assert.equal((await decide(host, publish, openGuard)).allow, true);
});

test('the shipped default bundle alone allows nothing', async (t) => {
  const host = await openHost(t, readFileSync(DEFAULT_BUNDLE_FILE));
  assert.equal((await decide(host, streamInput(), openGuard)).reason, 'policy_denied');
});
