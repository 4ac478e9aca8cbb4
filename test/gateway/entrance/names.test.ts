import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ClientList, isLoopbackListen } from '../../../src/gateway/entrance/client-list.ts';
import { Destinations } from '../../../src/gateway/entrance/destinations.ts';
import { canonicalHost, parseTarget } from '../../../src/gateway/entrance/host-name.ts';
import type { LinkPool } from '../../../src/gateway/link-pool.ts';

test('names compare without case, without the last dot, as A-labels; addresses in their one form', () => {
  const cases: [string, string | undefined][] = [
    ['SQL01.Corp.Example', 'sql01.corp.example'],
    ['sql01.corp.example.', 'sql01.corp.example'],
    ['BÜCHER.example', 'xn--bcher-kva.example'],
    ['bu\u0308cher.example.', 'xn--bcher-kva.example'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    ['10.1.2.3', '10.1.2.3'],
    ['FD00:0:0::7', 'fd00::7'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['_sql._tcp.example', '_sql._tcp.example'],
    // What other programs would read as an address stays a name, or is none.
    ['127.1', '127.1'],
    ['0x7f.0.0.1', '0x7f.0.0.1'],
    ['2130706433', '2130706433'],
    ['１２７.0.0.1', undefined],
    ['10.1.2.3.', undefined],
    ['', undefined],
    ['.', undefined],
    ['a..', undefined],
    ['a b', undefined],
    ['a\u0000b', undefined],
    ['fe80::1%eth0', undefined],
    ['[::1]', undefined],
    ['user@host', undefined],
    ['a'.repeat(254), undefined],
  ];
  for (const [text, expected] of cases) assert.equal(canonicalHost(text), expected, JSON.stringify(text));
});

test('the canonical form is its own canonical form', () => {
  fc.assert(
    fc.property(fc.oneof(fc.domain(), fc.ipV4(), fc.ipV6(), fc.string({ unit: 'grapheme' })), (text) => {
      const once = canonicalHost(text);
      if (once !== undefined) assert.equal(canonicalHost(once), once);
    }),
  );
});

test('a target is HOST:PORT', () => {
  assert.deepEqual(parseTarget('Sql01.corp.example:1433'), { host: 'sql01.corp.example', port: 1433 });
  assert.deepEqual(parseTarget('[FD00::7]:443'), { host: 'fd00::7', port: 443 });
  assert.deepEqual(parseTarget('[::ffff:10.0.0.1]:1'), { host: '10.0.0.1', port: 1 });
  for (const text of [
    'a',
    'a:',
    ':1',
    'a:65536',
    'a:123456',
    'fd00::7:443',
    '[a]:1',
    '[10.0.0.1]:1',
    'u@a:1',
    'a:1/',
    ' a:1',
  ])
    assert.equal(parseTarget(text), undefined, text);
});

const pool = (connection: string): LinkPool => ({ connection }) as unknown as LinkPool;

test('a target is found by itself and by its connection, and nothing else is', () => {
  const destinations = new Destinations([
    { pool: pool('orders-db'), target: 'SQL01.corp.example.:1433' },
    { pool: pool('shop'), target: undefined },
    { pool: pool('by-address'), target: '10.1.2.3:5432' },
    { pool: pool('books'), target: 'bücher.example:443' },
  ]);
  const find = (host: string, port: number): string | undefined => destinations.find(host, port)?.connection;
  assert.equal(find('sql01.CORP.example', 1433), 'orders-db');
  assert.equal(find('sql01.corp.example.', 1433), 'orders-db');
  assert.equal(find('sql01.corp.example', 1434), undefined, 'another port');
  assert.equal(find('Orders-DB', 1433), 'orders-db');
  assert.equal(find('orders-db', 1), undefined, 'a connection with another port than its target');
  assert.equal(find('shop', 1), 'shop');
  assert.equal(find('shop.', 9_999), 'shop');
  assert.equal(find('::ffff:10.1.2.3', 5432), 'by-address');
  assert.equal(find('xn--bcher-kva.example', 443), 'books');
  for (const host of [
    'sql01',
    'corp.example',
    'x.sql01.corp.example',
    '10.1.2.30',
    'localhost',
    '127.0.0.1',
    'toString',
    '',
  ])
    assert.equal(find(host, 1433), undefined, host);
});

test('clients are matched by range, IPv4-mapped and with zone id too', () => {
  const list = new ClientList(['10.1.0.0/16', 'fd00::/64', '::ffff:192.168.0.0/112', 'fe80::/10']);
  for (const inside of [
    '10.1.255.255',
    '::ffff:10.1.0.0',
    '::FFFF:10.1.2.3',
    'fd00::1',
    'fd00:0:0:0:ff::',
    '192.168.7.7',
    'fe80::1%eth0',
  ])
    assert.ok(list.has(inside), inside);
  for (const outside of [
    '10.2.0.0',
    '10.0.255.255',
    '::ffff:10.2.0.0',
    '::10.1.0.1',
    'fd00:0:0:1::',
    '192.169.0.0',
    '',
    'x',
    undefined,
  ])
    assert.equal(list.has(outside), false, String(outside));
  const everybody = new ClientList(['0.0.0.0/0', '::/0']);
  assert.ok(everybody.has('8.8.8.8') && everybody.has('::ffff:8.8.8.8') && everybody.has('2001:db8::1'));
  const nobodyOnIpv6 = new ClientList(['0.0.0.0/0']);
  assert.equal(nobodyOnIpv6.has('2001:db8::1'), false);
});

test('without a list only this machine is a client', () => {
  const list = new ClientList();
  for (const own of ['127.0.0.1', '127.77.0.3', '::1', '::ffff:127.0.0.1']) assert.ok(list.has(own), own);
  for (const other of ['10.0.0.1', '::ffff:10.0.0.1', '::', '0.0.0.0', '128.0.0.1'])
    assert.equal(list.has(other), false);
  for (const listen of ['127.0.0.1:1', '127.77.0.1:0', '[::1]:1', 'localhost:1', 'LOCALHOST:1'])
    assert.ok(isLoopbackListen(listen));
  for (const listen of ['0.0.0.0:1', '[::]:1', '10.0.0.1:1', 'gateway.corp.example:1', 'rubbish'])
    assert.equal(isLoopbackListen(listen), false, listen);
});
