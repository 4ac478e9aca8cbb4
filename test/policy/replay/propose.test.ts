import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalInput } from '../../../src/policy/input.ts';
import { Observations, type PastDecision, propose } from '../../../src/policy/index.ts';
import { keyOf, streamInput } from '../support.ts';

const stream = (connection: string, principal: string): PastDecision => ({
  eventId: `${connection} ${principal}`,
  at: '2027-03-30T10:00:00.000Z',
  action: 'stream',
  connection,
  allow: true,
  decidedBy: 'policy',
  rule: null,
  rules: { publish: [], stream: [] },
  reasons: [],
  input: canonicalInput(
    streamInput({ connection: { name: connection, id: 'c_1', labels: {} }, key: keyOf(principal) }),
  ),
  addresses: ['10.1.2.3'],
  allowedAddresses: ['10.1.2.3'],
  count: 1,
});

test('every proposed rule has an id of its own, whatever connections and principals are called', () => {
  const observations = new Observations();
  observations.add(stream('orders', 'db-reader'));
  observations.add(stream('orders-db', 'reader'));
  const proposals = propose(observations.all(), {
    owner: 'sec@example.com',
    expires: 'never',
    hours: 'seen',
  });
  const ids = proposals.flatMap(({ rego }) => [...rego.matchAll(/\{id: ([^,]+),/g)].map(([, id]) => id));
  assert.deepEqual(ids, ['orders-publish', 'orders-db-reader', 'orders-db-publish', 'orders-db-reader-2']);
  for (const { rego, vectors } of proposals)
    for (const [, id] of rego.matchAll(/\{id: ([^,]+),/g))
      assert.match(vectors, new RegExp(`name: ${id ?? ''} `));
});

test('whom policy denied later what it had been allowed is left out; another hour, source or engine removes nobody', () => {
  const denied: PastDecision = {
    ...stream('orders', 'acme'),
    at: '2027-03-31T10:00:00.000Z',
    allow: false,
    reasons: ['no_rule'],
    allowedAddresses: [],
  };
  const elsewhen = streamInput({ connection: { name: 'orders', id: 'c_1', labels: {} }, key: keyOf('acme') });
  const { time } = elsewhen;
  const local = { ...time.local, hour: (time.local.hour + 5) % 24 };
  const proposed = (...denials: PastDecision[]): ReturnType<typeof propose>[number] | undefined => {
    const observations = new Observations();
    for (const past of [...denials, stream('orders', 'acme'), stream('orders', 'app')])
      observations.add(past);
    return propose(observations.all(), { owner: 'o', expires: 'never', hours: 'seen' })[0];
  };
  const out = proposed(denied);
  assert.deepEqual(out?.removed, [
    {
      principal: 'acme',
      lastAllowedAt: '2027-03-30T10:00:00.000Z',
      deniedAt: '2027-03-31T10:00:00.000Z',
      reasons: ['no_rule'],
    },
  ]);
  assert.doesNotMatch(out.rego, /principal == "acme"/);
  assert.match(out.rego, /principal == "app"/);
  assert.match(out.rego, /# Left out: "acme", .* denied the same 2027-03-31T10:00:00\.000Z \(no_rule\)\.\n$/);
  for (const other of [
    { ...denied, at: '2027-03-29T10:00:00.000Z' },
    { ...denied, decidedBy: 'engine' as const },
    { ...denied, input: canonicalInput({ ...elsewhen, time: { ...time, local } }) },
  ]) {
    assert.match(proposed(other)?.rego ?? '', /principal == "acme"/);
  }
});
