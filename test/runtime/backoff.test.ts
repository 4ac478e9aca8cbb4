import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BACKOFF_CAP_MS, Backoff } from '../../src/runtime/index.ts';

test('three quick tries within 2 s, then 1 s doubling to the cap', () => {
  const backoff = new Backoff(() => 1);
  const delays = Array.from({ length: 10 }, () => backoff.nextDelayMs());
  assert.ok(delays[0]! + delays[1]! + delays[2]! <= 2_000);
  assert.deepEqual(delays.slice(3), [1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]);
});

test('jitter reaches down to zero, so that a thousand clients do not come back together', () => {
  const backoff = new Backoff(() => 0);
  assert.deepEqual(
    Array.from({ length: 6 }, () => backoff.nextDelayMs()),
    [0, 0, 0, 0, 0, 0],
  );
});

test('a refusal that will not change goes to the cap, and a reset begins anew', () => {
  const backoff = new Backoff(() => 1);
  assert.equal(backoff.capDelayMs(), BACKOFF_CAP_MS);
  assert.equal(backoff.nextDelayMs(), 1_000);
  backoff.reset();
  assert.ok(backoff.nextDelayMs() < 1_000);
});
