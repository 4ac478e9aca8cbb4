import assert from 'node:assert/strict';
import { test } from 'node:test';
import { similarNames } from '../../src/cli/audit/similar.ts';

const NAMES = [
  'denials',
  'unused-grants',
  'key-history',
  'key-changes',
  'target-changes',
  'gaps',
  'open-now',
];

test('names that may be meant: mistyped, begun, or with a word in common; nothing far-fetched', () => {
  assert.deepEqual(similarNames('denails', NAMES), ['denials']);
  assert.deepEqual(similarNames('Open', NAMES), ['open-now']);
  assert.deepEqual(similarNames('key-usage', NAMES), ['key-changes', 'key-history']);
  assert.equal(similarNames('grants', NAMES).includes('unused-grants'), true);
  assert.deepEqual(similarNames('bananas', NAMES), []);
});
