import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';

test('timers fire in order of time, periodic ones again, cancelled ones never', () => {
  const clock = new ManualClock(1_000);
  const fired: string[] = [];
  clock.after(20, () => fired.push(`b@${clock.nowMs()}`));
  clock.after(10, () => fired.push(`a@${clock.nowMs()}`));
  const beat = clock.every(15, () => fired.push(`beat@${clock.nowMs()}`));
  clock.after(5, () => fired.push('never')).cancel();
  clock.advance(31);
  beat.cancel();
  clock.advance(100);
  assert.deepEqual(fired, ['a@1010', 'beat@1015', 'b@1020', 'beat@1030']);
  assert.equal(clock.pendingCount, 0);
});

test('sleep ends with the clock, or with its signal', async () => {
  const clock = new ManualClock();
  const slept = sleep(clock, 50);
  clock.advance(50);
  await slept;
  const abort = new AbortController();
  const cut = sleep(clock, 50, abort.signal);
  abort.abort(new Error('stop'));
  await assert.rejects(cut, /stop/);
  assert.equal(clock.pendingCount, 0);
});
