import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'node:test';
import { allow, deny, makeHarness, openOne, ADDRESS, FakeIncoming } from './harness.ts';

const CONNECTION = 'orders-db';

test('what becomes of the dials of streams is known of their target', async () => {
  const harness = makeHarness();
  const state = () => harness.targets.status([CONNECTION])[0];
  assert.equal(state()?.state, 'unknown');
  assert.equal(harness.targets.ageMs(CONNECTION), undefined);

  await openOne(harness);
  const reached = state();
  assert.deepEqual(
    [reached?.state, reached?.checked_by, reached?.address, reached?.reason],
    ['reachable', 'stream', ADDRESS, null],
  );

  harness.clock.advance(10_000);
  assert.equal(harness.targets.ageMs(CONNECTION), 10_000);
  assert.equal(state()?.since, reached?.since, 'the state is as old as it is');

  harness.isReachable = false;
  harness.opener.open(new FakeIncoming(harness.trace), harness.link);
  await harness.trace.until('connect');
  while (harness.sockets.length < 2) await nextTurn();
  harness.sockets[1]?.emit('error', Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
  const failed = state();
  assert.deepEqual(
    [failed?.state, failed?.reason, failed?.detail, failed?.address],
    ['unreachable', 'target_unreachable', `${ADDRESS}: ECONNREFUSED`, null],
  );
  assert.notEqual(failed?.since, reached?.since);
});

test('a refusal by policy or guard says nothing of the target', async () => {
  const harness = makeHarness();
  harness.policy.answer = (base) => Promise.resolve(deny(base, 1));
  await openOne(harness);
  harness.policy.answer = (base) => Promise.resolve(allow(base, 1));
  harness.guard.ownListeners = [{ address: ADDRESS, port: 5432 }];
  await openOne(harness);
  assert.equal(harness.targets.status([CONNECTION])[0]?.state, 'unknown');
});

test('a name without an address is a target that nobody reaches', async () => {
  const harness = makeHarness({ host: 'db.test', lookup: () => Promise.reject(new Error('no such name')) });
  await openOne(harness);
  const [state] = harness.targets.status([CONNECTION]);
  assert.equal(state?.state, 'unreachable');
  assert.equal(state.reason, 'dns_failure');
  assert.match(state.detail ?? '', /^db\.test: /);
});
