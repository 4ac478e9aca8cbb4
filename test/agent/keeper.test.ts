import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Obligations } from '../../src/policy/index.ts';
import { allow, type FakeIncoming, type Harness, makeHarness, openOne } from './harness.ts';

const openWith = async (
  obligations: Partial<Obligations>,
  recheckAt: string | null = null,
): Promise<{ harness: Harness; incoming: FakeIncoming; closedBy: () => string | undefined }> => {
  const harness = makeHarness();
  harness.policy.answer = (base) =>
    Promise.resolve(
      allow(base, 1, { obligations: { recheck_seconds: 60, ...obligations }, recheck_at: recheckAt }),
    );
  const incoming = await openOne(harness);
  const closedBy = (): string | undefined => {
    const close = harness.events.find(({ type }) => type === 'stream.close');
    return close?.type === 'stream.close' ? close.data.reason : undefined;
  };
  return { harness, incoming, closedBy };
};

test('max_seconds ends a stream that is never idle', async () => {
  const { harness, incoming, closedBy } = await openWith({ max_seconds: 30 });
  harness.clock.advance(29_900);
  assert.equal(closedBy(), undefined);
  if (incoming.session) incoming.session.bytesUp = 1_000_000;
  harness.clock.advance(300);
  assert.equal(closedBy(), 'max_seconds');
  assert.equal(harness.slots.inUse, 0);
});

test('max_bytes ends a stream soon after it moved them', async () => {
  const { harness, incoming, closedBy } = await openWith({ max_bytes: 1_000 });
  assert.ok(incoming.session);
  incoming.session.bytesUp = 600;
  harness.clock.advance(1_000);
  assert.equal(closedBy(), undefined);
  incoming.session.bytesDown = 400;
  harness.clock.advance(300);
  assert.equal(closedBy(), 'max_bytes');
});

test('idle_seconds counts from the last byte', async () => {
  const { harness, incoming, closedBy } = await openWith({ idle_seconds: 20 });
  assert.ok(incoming.session);
  for (let second = 0; second < 60; second += 10) {
    harness.clock.advance(10_000);
    incoming.session.bytesUp += 1;
  }
  assert.equal(closedBy(), undefined);
  harness.clock.advance(31_000);
  assert.equal(closedBy(), 'idle_timeout');
});

test('a re-evaluation is due every recheck_seconds and at recheck_at', async () => {
  const { harness } = await openWith({ recheck_seconds: 30 });
  harness.clock.advance(30_200);
  assert.equal(harness.rechecks.length, 1);
  harness.clock.advance(30_200);
  assert.equal(harness.rechecks.length, 2);

  const soon = await openWith({ recheck_seconds: 3_600 }, '2026-01-01T00:00:10Z');
  soon.harness.clock.advance(9_800);
  assert.equal(soon.harness.rechecks.length, 0);
  soon.harness.clock.advance(400);
  assert.equal(soon.harness.rechecks.length, 1);
});

test('an ended stream is watched no more', async () => {
  const { harness, incoming } = await openWith({ max_seconds: 30, max_bytes: 10, idle_seconds: 5 });
  incoming.end('client_fin');
  assert.equal(harness.wheel.pendingCount, 0);
});
