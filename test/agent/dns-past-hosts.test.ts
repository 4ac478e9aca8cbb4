import assert from 'node:assert/strict';
import { test } from 'node:test';
import { askDns, namesToAsk, parseResolvConf } from '../../src/agent/dns-past-hosts.ts';
import { startDns } from '../support/dns-server.ts';

const settingsOf = (server: string, search: readonly string[] = []) => ({
  servers: [server],
  search,
  ndots: 1,
});

test('resolv.conf is read as resolv.conf(5) says', () => {
  assert.deepEqual(
    parseResolvConf(
      '# nameserver 9.9.9.9\nnameserver 10.0.0.1\nnameserver 2001:db8::1 ; x\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n' +
        'domain one.example\nsearch corp.example\tlab.example\noptions timeout:1 ndots:99 rotate\n',
    ),
    { servers: ['10.0.0.1', '2001:db8::1', '10.0.0.2'], search: ['corp.example', 'lab.example'], ndots: 15 },
  );
  assert.deepEqual(parseResolvConf(''), { servers: [], search: [], ndots: 1 });
});

test('short names are asked for in the search domains first, long ones last, absolute ones as they are', () => {
  const settings = { servers: [], search: ['corp.example.', 'lab.example'], ndots: 1 };
  assert.deepEqual(namesToAsk('db', settings), ['db.corp.example', 'db.lab.example', 'db']);
  assert.deepEqual(namesToAsk('db.x', settings), ['db.x', 'db.x.corp.example', 'db.x.lab.example']);
  assert.deepEqual(namesToAsk('db.x.', settings), ['db.x']);
  assert.deepEqual(namesToAsk('db.x', { ...settings, ndots: 2 })[0], 'db.x.corp.example');
});

test('DNS is asked past the hosts file, IPv4 first, and a gateway’s own addresses are no answer', async (t) => {
  const dns = await startDns(t, {
    'db.corp.example': ['2001:db8::5', '127.77.1.2', '10.1.2.3', 'fe80::7f4d:102'],
    'only.corp.example': ['127.77.1.2'],
  });
  assert.deepEqual(await askDns('db.corp.example', settingsOf(dns.server)), ['10.1.2.3', '2001:db8::5']);
  assert.deepEqual(await askDns('db', settingsOf(dns.server, ['lab.example', 'corp.example'])), [
    '10.1.2.3',
    '2001:db8::5',
  ]);
  assert.deepEqual(await askDns('only.corp.example', settingsOf(dns.server)), []);
  assert.deepEqual(await askDns('none.corp.example', settingsOf(dns.server)), []);
});

test('a server that does not answer well is a failure, not an answer', async () => {
  // Nobody listens there: the ICMP answer comes at once.
  await assert.rejects(askDns('db.corp.example', settingsOf('127.0.0.1:1')), { code: 'ECONNREFUSED' });
});
