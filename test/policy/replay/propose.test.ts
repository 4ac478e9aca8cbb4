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
  const proposals = propose(observations.all(), { owner: 'sec@example.com', expires: 'never' });
  const ids = proposals.flatMap(({ rego }) => [...rego.matchAll(/\{id: ([^,]+),/g)].map(([, id]) => id));
  assert.deepEqual(ids, ['orders-publish', 'orders-db-reader', 'orders-db-publish', 'orders-db-reader-2']);
  for (const { rego, vectors } of proposals)
    for (const [, id] of rego.matchAll(/\{id: ([^,]+),/g))
      assert.match(vectors, new RegExp(`name: ${id ?? ''} `));
});
