import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatHostPort, parseHostPort } from '../../src/runtime/index.ts';

test('names, addresses and bracketed IPv6 are read and written back', () => {
  for (const text of ['sql01.corp.example:1433', '10.0.0.1:80', '[::1]:5432', 'localhost:0']) {
    assert.equal(formatHostPort(parseHostPort(text)), text);
  }
  assert.deepEqual(parseHostPort('SQL01:1433'), { host: 'sql01', port: 1433 });
});

test('what is not HOST:PORT is refused with the text in the message', () => {
  for (const text of [
    '',
    'a',
    ':80',
    'a:',
    'a:b',
    'a:65536',
    'a:999999',
    '::1:80',
    '[::1]',
    '[a]:1',
    'a b:1',
    '-a:1',
  ]) {
    assert.throws(() => parseHostPort(text), { code: 'ERR_CONFIG_HOST_PORT' }, text);
  }
});
