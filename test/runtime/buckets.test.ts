import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Buckets } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';

test('buckets refill, and the one used longest ago makes room', () => {
  const clock = new ManualClock();
  const buckets = new Buckets(clock, { burst: 2, perSecond: 1, mostBuckets: 2 });
  assert.deepEqual([buckets.take('a'), buckets.take('a'), buckets.take('a')], [true, true, false]);
  clock.advance(1_000);
  assert.deepEqual([buckets.take('a'), buckets.take('a')], [true, false]);
  buckets.take('b');
  buckets.take('c');
  assert.equal(buckets.take('a'), true, 'forgotten, so fresh');
});
