import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CLOSE_REASON,
  type CloseReason,
  closeReasonOf,
  isCloseReason,
  MOVABLE_REASONS,
} from '../../src/runtime/index.ts';

test('numbers are unique and round-trip; an unknown one is internal', () => {
  const names = Object.keys(CLOSE_REASON) as CloseReason[];
  assert.equal(new Set(Object.values(CLOSE_REASON)).size, names.length);
  for (const name of names) assert.equal(closeReasonOf(CLOSE_REASON[name]), name);
  assert.equal(closeReasonOf(60_000), 'internal');
});

test('names of the prototype are no reasons', () => {
  assert.equal(isCloseReason('toString'), false);
  assert.equal(isCloseReason('key_revoked'), true);
});

test('no policy refusal is ever movable', () => {
  for (const reason of MOVABLE_REASONS)
    assert.doesNotMatch(reason, /policy|guard|managed|limit|proof|grant|revoked/);
});
