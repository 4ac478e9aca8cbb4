import assert from 'node:assert/strict';
import { test } from 'node:test';
import { policyTimeIn } from '../../src/agent/local-time.ts';

test('time of the policy input is UTC seconds and the local clock of the zone', () => {
  const berlin = policyTimeIn('Europe/Berlin');
  const atMs = Date.UTC(2027, 2, 30, 9, 5, 7, 890);
  assert.deepEqual(berlin(atMs), {
    unix_ms: atMs,
    rfc3339: '2027-03-30T09:05:07Z',
    local: { date: '2027-03-30', weekday: 'tue', hour: 11, minute: 5, zone: 'Europe/Berlin' },
  });
});

test('a change to summer time and a new day show in the minute in which they come', () => {
  const berlin = policyTimeIn('Europe/Berlin');
  const beforeMs = Date.UTC(2026, 2, 29, 0, 59, 59, 999);
  assert.equal(berlin(beforeMs).local.hour, 1);
  assert.equal(berlin(beforeMs + 1).local.hour, 3);
  const midnightMs = Date.UTC(2026, 5, 1, 22, 0, 0);
  assert.equal(berlin(midnightMs - 1).local.date, '2026-06-01');
  assert.deepEqual(berlin(midnightMs).local, {
    date: '2026-06-02',
    weekday: 'tue',
    hour: 0,
    minute: 0,
    zone: 'Europe/Berlin',
  });
});
