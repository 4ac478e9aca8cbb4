import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDurationMs, parseInstantMs } from '../../src/runtime/index.ts';

test('durations have one unit and are whole', () => {
  assert.deepEqual(
    ['90s', '10m', '2h', '30d'].map(parseDurationMs),
    [90_000, 600_000, 7_200_000, 2_592_000_000],
  );
  for (const text of ['', '5', 'd', '1.5h', '-1d', '1w', '1d2h', '1 d'])
    assert.equal(parseDurationMs(text), undefined);
});

test('instants are days or RFC 3339 with a zone, and exist', () => {
  assert.equal(parseInstantMs('2026-06-03'), Date.UTC(2026, 5, 3));
  assert.equal(parseInstantMs('2026-06-03T02:00:00+02:00'), Date.UTC(2026, 5, 3));
  assert.equal(parseInstantMs('2024-02-29T23:59Z'), Date.UTC(2024, 1, 29, 23, 59));
  for (const text of [
    '2026-02-29',
    '2026-04-31T00:00:00Z',
    '2026-13-01',
    '2026-06-03T25:00Z',
    '2026-06-03T00:00',
    'soon',
  ]) {
    assert.equal(parseInstantMs(text), undefined, text);
  }
});
