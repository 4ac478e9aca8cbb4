import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseListens, parsePublications } from '../../src/cli/deploy/publication.ts';

test('publications are read, IPv6 targets too', () => {
  assert.deepEqual(parsePublications(['orders-db=sql01.corp.example:1433', 'v6=[::1]:80']), [
    { name: 'orders-db', target: { host: 'sql01.corp.example', port: 1433 } },
    { name: 'v6', target: { host: '::1', port: 80 } },
  ]);
});

test('what is no publication is refused with the text', () => {
  for (const text of [
    'orders',
    '=a:1',
    'Orders=a:1',
    'a b=a:1',
    `${'x'.repeat(64)}=a:1`,
    'a=b:0',
    '\u0000=a:1',
  ]) {
    assert.throws(() => parsePublications([text]), { code: 'ERR_CLI_USAGE' }, JSON.stringify(text));
  }
  assert.throws(() => parsePublications(['a=b']), { code: 'ERR_CONFIG_HOST_PORT' });
  assert.throws(() => parsePublications(['a=b:1', 'a=c:2']), /names a twice/);
});

test('a listener belongs to a published connection, and to one only', () => {
  assert.deepEqual(parseListens(['a=127.0.0.1:0'], ['a']).get('a'), { host: '127.0.0.1', port: 0 });
  assert.throws(() => parseListens(['b=127.0.0.1:1'], ['a']), /not published/);
  assert.throws(() => parseListens(['a=127.0.0.1:1', 'a=127.0.0.1:2'], ['a']), /twice/);
  assert.throws(() => parseListens(['a=127.0.0.1:1', 'b=127.0.0.1:1'], ['a', 'b']), /to two connections/);
});
