import assert from 'node:assert/strict';
import { test } from 'node:test';
import { uuidv7 } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';

test('uuidv7 carries its time, version and variant (RFC 9562 §5.7)', () => {
  const clock = new ManualClock(0x0192_3456_789a);
  for (let index = 0; index < 2_000; index += 1) {
    assert.match(uuidv7(clock), /^01923456-789a-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  }
});

test('uuidv7 does not repeat within one millisecond', () => {
  const clock = new ManualClock();
  const seen = new Set(Array.from({ length: 20_000 }, () => uuidv7(clock)));
  assert.equal(seen.size, 20_000);
});
