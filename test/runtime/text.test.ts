import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cleanText, terminalText, withoutZone } from '../../src/runtime/index.ts';

test('foreign text loses NUL, lone surrogates and what exceeds the limit', () => {
  assert.equal(cleanText('a\u0000b'), 'a\ufffdb');
  assert.equal(cleanText('a\ud800b'), 'a\ufffdb');
  assert.equal(cleanText('abcdef', 3), 'abc');
  assert.equal(cleanText('ab\u{1f600}', 3), 'ab\ufffd', 'a pair that the limit cuts is not left half');
});

test('a zone id is stripped from a scoped address', () => {
  assert.equal(withoutZone('fe80::1%eth0'), 'fe80::1');
  assert.equal(withoutZone('10.0.0.1'), '10.0.0.1');
});

test('what is shown on a terminal cannot move the cursor or turn the text round', () => {
  assert.equal(terminalText('a\u001b[2Jb\u202ec\u009b'), 'a\\u001b[2Jb\\u202ec\\u009b');
  assert.equal(terminalText('łódź'), 'łódź');
});
