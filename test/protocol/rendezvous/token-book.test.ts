import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TokenBook } from '../../../src/protocol/rendezvous/token-book.ts';

test('a token names one side of one link and works once', () => {
  const book = new TokenBook<string>();
  const agent = book.issue('link', 'agent');
  const gateway = book.issue('link', 'gateway');
  assert.match(agent, /^[0-9a-f]{32}$/);
  assert.notEqual(agent, gateway);
  assert.deepEqual(book.take(agent), { link: 'link', side: 'agent' });
  assert.equal(book.take(agent), undefined);
  book.withdraw(gateway);
  assert.equal(book.take(gateway), undefined);
  assert.equal(book.size, 0);
});
