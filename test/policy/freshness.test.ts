import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Freshness } from '../../src/policy/bundle/freshness.ts';
import { decide } from '../../src/policy/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { compileOrders, openGuard, openHost, streamInput } from './support.ts';

const HOUR_MS = 3_600_000;

test('a source that was never heard is stale, and one that falls silent becomes so once, whatever the wall clock does', () => {
  const clock = new ManualClock();
  const flips: boolean[] = [];
  const freshness = new Freshness(clock, HOUR_MS, () => flips.push(freshness.isStale));
  assert.deepEqual([freshness.isStale, freshness.ageMs], [true, undefined]);
  freshness.confirm();
  assert.deepEqual(flips, [false]);
  clock.advance(HOUR_MS);
  assert.deepEqual([freshness.isStale, flips.length], [false, 1]);
  clock.advance(2);
  assert.deepEqual([freshness.isStale, flips], [true, [false, true]]);
  clock.advance(HOUR_MS);
  assert.equal(flips.length, 2);
  freshness.confirm();
  assert.deepEqual(flips, [false, true, false]);
  clock.advance(HOUR_MS - 1);
  freshness.confirm(HOUR_MS / 2);
  clock.advance(HOUR_MS / 2 + 2);
  assert.deepEqual(
    [freshness.isStale, flips.length],
    [true, 4],
    'what was confirmed a while ago ends earlier',
  );
});

test('without a limit no source is stale', () => {
  const freshness = new Freshness(new ManualClock(), undefined, () => assert.fail('flipped'));
  assert.equal(freshness.isStale, false);
  freshness.confirm();
  assert.deepEqual(freshness.status(), { ageMs: 0, maxAgeMs: undefined, isStale: false });
});

test('while the source is silent everything is denied, and the generation tells before from after', async (t) => {
  const host = await openHost(t, undefined, { source: { name: 'test' }, maxAgeMs: 1_000 * HOUR_MS });
  const changes: boolean[] = [];
  host.onFreshness(({ isStale }) => changes.push(isStale));
  await host.offer(await compileOrders(t));
  const silent = await decide(host, streamInput(), openGuard);
  assert.deepEqual([silent.allow, silent.decided_by, silent.reason], [false, 'engine', 'no_bundle']);
  assert.deepEqual(silent.reasons, [
    { code: 'bundle_stale', args: { age_seconds: null, max_age_seconds: 3_600_000 } },
  ]);
  assert.equal(silent.bundle?.sequence, 7);
  host.confirm();
  const heard = await decide(host, streamInput(), openGuard);
  assert.deepEqual([heard.allow, heard.generation], [true, silent.generation + 1]);
  host.confirm(2_000 * HOUR_MS);
  const again = await decide(host, streamInput(), openGuard);
  assert.deepEqual([again.allow, again.generation], [false, heard.generation + 1]);
  assert.deepEqual(changes, [false, true]);
});
