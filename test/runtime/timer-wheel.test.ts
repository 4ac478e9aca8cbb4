import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TimerWheel } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';

test('a call comes at its time or up to one tick later, never before', () => {
  const clock = new ManualClock();
  const wheel = new TimerWheel(clock, 100);
  const calls: number[] = [];
  for (const delayMs of [0, 1, 100, 150, 1_000]) {
    wheel.after(delayMs, () => calls.push(clock.monotonicMs() - delayMs));
  }
  clock.advance(2_000);
  assert.equal(calls.length, 5);
  for (const lateMs of calls) assert.ok(lateMs >= 0 && lateMs <= 100, `late by ${lateMs}`);
});

test('a cancelled call never comes, and the one timer stops when nothing is pending', () => {
  const clock = new ManualClock();
  const wheel = new TimerWheel(clock);
  let calls = 0;
  const entry = wheel.after(500, () => (calls += 1));
  assert.equal(clock.pendingCount, 1);
  entry.cancel();
  entry.cancel();
  assert.equal(wheel.pendingCount, 0);
  assert.equal(clock.pendingCount, 0);
  clock.advance(1_000);
  assert.equal(calls, 0);
});

test('a call may add and cancel others, and the wheel works on after an idle time', () => {
  const clock = new ManualClock();
  const wheel = new TimerWheel(clock);
  const calls: string[] = [];
  const other = wheel.after(250, () => calls.push('never'));
  wheel.after(150, () => {
    calls.push('first');
    other.cancel();
    wheel.after(0, () => calls.push('second'));
  });
  clock.advance(10_000);
  wheel.after(50, () => calls.push('third'));
  clock.advance(200);
  assert.deepEqual(calls, ['first', 'second', 'third']);
});

test('close forgets everything, from inside a call too', () => {
  const clock = new ManualClock();
  const wheel = new TimerWheel(clock);
  let calls = 0;
  wheel.after(100, () => {
    calls += 1;
    wheel.close();
  });
  const same = wheel.after(100, () => (calls += 1));
  clock.advance(1_000);
  same.cancel();
  assert.equal(calls, 1);
  assert.equal(wheel.pendingCount, 0);
});
