import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressBytes, normalizeCandidates } from '../../src/policy/address.ts';
import { guardAddress, type GuardSettings, normalizeAddress } from '../../src/policy/index.ts';
import { addressText } from '../../src/runtime/index.ts';

const settings: GuardSettings = {
  allowLoopbackPorts: new Set([5432]),
  ownListeners: [
    { address: '10.9.9.9', port: 9352 },
    { address: '0.0.0.0', port: 8443 },
  ],
  auditDatabase: [{ address: '10.8.8.8', port: 5432 }],
  allowAuditDatabase: false,
};

const refused: readonly (readonly [string, string, number?])[] = [
  ['0.0.0.0', 'unspecified'],
  ['0.1.2.3', 'unspecified'],
  ['::', 'unspecified'],
  ['169.254.0.1', 'link_local'],
  ['169.254.255.255', 'link_local'],
  ['fe80::1', 'link_local'],
  ['fe80::1%eth0', 'link_local'],
  ['febf:ffff::1', 'link_local'],
  ['169.254.169.254', 'cloud_metadata'],
  ['168.63.129.16', 'cloud_metadata'],
  ['100.100.100.200', 'cloud_metadata'],
  ['fd00:ec2::254', 'cloud_metadata'],
  ['224.0.0.1', 'multicast'],
  ['239.255.255.255', 'multicast'],
  ['ff02::1', 'multicast'],
  ['240.0.0.1', 'broadcast'],
  ['255.255.255.255', 'broadcast'],
  ['::ffff:10.0.0.1', 'ipv4_mapped'],
  ['::ffff:a00:1', 'ipv4_mapped'],
  ['127.0.0.1', 'loopback'],
  ['127.78.0.9', 'loopback'],
  ['::1', 'loopback'],
  ['64:ff9b::169.254.169.254', 'embedded_ipv4'],
  ['64:ff9b::127.0.0.1', 'embedded_ipv4', 5432],
  ['64:ff9b::10.9.9.9', 'embedded_ipv4', 9352],
  ['64:ff9b::10.8.8.8', 'embedded_ipv4', 5432],
  ['64:ff9b:1::169.254.169.254', 'embedded_ipv4'],
  ['64:ff9b:1:7f00:0:100::', 'embedded_ipv4'],
  ['2002:7f00:1::', 'embedded_ipv4'],
  ['2002:a9fe:a9fe::1', 'embedded_ipv4'],
  ['2002:e000:1::1', 'embedded_ipv4'],
  ['::169.254.169.254', 'embedded_ipv4'],
  ['::ffff:0:127.0.0.1', 'embedded_ipv4'],
  ['10.8.8.8', 'audit_database', 5432],
  ['not-an-address', 'not_an_address'],
  ['10.0.0.1.5', 'not_an_address'],
  ['', 'not_an_address'],
];

for (const [address, detail, port = 443] of refused) {
  test(`the guard refuses ${address || 'nothing'} port ${port} as ${detail}`, () => {
    assert.deepEqual(guardAddress(address, port, settings), { ok: false, code: 'guard_denied', detail });
  });
}

test('the guard lets ordinary addresses through', () => {
  const allowed: readonly (readonly [string, number])[] = [
    ['10.0.0.1', 443],
    ['192.168.1.1', 5432],
    ['203.0.113.5', 22],
    ['168.63.129.17', 80],
    ['100.100.100.201', 80],
    ['2001:db8::1', 443],
    ['fd00:ec2::253', 80],
    ['fec0::1', 443],
    ['64:ff9b::10.0.0.1', 443],
    ['2002:a00:1::1', 443],
    ['127.0.0.1', 5432],
    ['::1', 5432],
    ['10.8.8.8', 5433],
    ['10.9.9.9', 443],
  ];
  for (const [address, port] of allowed) {
    assert.deepEqual(guardAddress(address, port, settings), { ok: true }, `${address} ${port}`);
  }
});

test("Sallyport's own listeners are a loop, on every local address when unspecified", () => {
  const loop = { ok: false, code: 'loop', detail: 'own_listener' };
  assert.deepEqual(guardAddress('10.9.9.9', 9352, settings), loop);
  assert.deepEqual(guardAddress('127.0.0.1', 8443, settings), loop);
  const local = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  for (const { address, scopeid } of local) {
    if (scopeid !== undefined && scopeid > 0) continue;
    assert.deepEqual(guardAddress(normalizeAddress(address), 8443, settings), loop, address);
  }
  const allowed = { ...settings, allowLoopbackPorts: new Set([8443]) };
  assert.deepEqual(
    guardAddress('127.0.0.1', 8443, allowed),
    loop,
    'an allowed loopback port is no exception',
  );
  const named = { ...settings, ownListeners: [{ address: 'localhost', port: 70 }] };
  assert.equal(
    guardAddress('127.0.0.1', 70, named).ok,
    false,
    'a listener by name stands for any local address',
  );
});

test('an address of a transparent name is a loop, whoever listens there and whatever loopback is allowed', () => {
  const loop = { ok: false, code: 'loop', detail: 'own_listener' };
  for (const address of ['127.77.0.1', '127.77.255.254', '127.77.0.0']) {
    assert.deepEqual(guardAddress(address, 5432, settings), loop, address);
  }
  assert.deepEqual(guardAddress('64:ff9b::127.77.0.1', 5432, settings), {
    ok: false,
    code: 'guard_denied',
    detail: 'embedded_ipv4',
  });
});

test('the audit database is a target only where that is allowed', () => {
  assert.deepEqual(guardAddress('10.8.8.8', 5432, { ...settings, allowAuditDatabase: true }), { ok: true });
});

test('addresses are normalised: mapped to IPv4, zone stripped, one text form', () => {
  assert.equal(normalizeAddress('::ffff:10.0.0.1'), '10.0.0.1');
  assert.equal(normalizeAddress('::FFFF:0a00:0001'), '10.0.0.1');
  assert.equal(normalizeAddress('0:0:0:0:0:ffff:169.254.169.254'), '169.254.169.254');
  assert.equal(normalizeAddress('fe80::1%eth0'), 'fe80::1');
  assert.equal(normalizeAddress('2001:DB8:0:0:1:0:0:1'), '2001:db8::1:0:0:1');
  assert.equal(normalizeAddress('::'), '::');
  assert.throws(() => normalizeAddress('localhost'), { code: 'ERR_POLICY_ADDRESS' });
  assert.throws(() => normalizeAddress('10.0.0.1\u0000'), { code: 'ERR_POLICY_ADDRESS' });
});

test('candidates keep the resolver order, without repetition, at most eight', () => {
  const addresses = ['10.0.0.9', '::ffff:10.0.0.9', ...Array.from({ length: 9 }, (_, at) => `10.0.0.${at}`)];
  const candidates = normalizeCandidates(addresses);
  assert.equal(candidates.length, 8);
  assert.deepEqual(candidates.slice(0, 3), ['10.0.0.9', '10.0.0.0', '10.0.0.1']);
});

test('the text of any address gives the same bytes again', () => {
  const bytes = fc.oneof(
    fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 4, maxLength: 4 }),
    fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 255 })), { minLength: 16, maxLength: 16 }),
  );
  fc.assert(
    fc.property(bytes, (value) => {
      assert.deepEqual([...addressBytes(addressText(value))], value);
    }),
  );
});

test('no IPv6 form of a guarded IPv4 address passes', () => {
  const guarded = fc.constantFrom('169.254.169.254', '127.0.0.1', '168.63.129.16', '224.0.0.1', '0.0.0.0');
  const form = fc.constantFrom(
    (v4: string) => `::ffff:${v4}`,
    (v4: string) => `64:ff9b::${v4}`,
    (v4: string) => `64:ff9b:1::${v4}`,
    (v4: string) => `::ffff:0:${v4}`,
    (v4: string) => {
      const [a = 0, b = 0, c = 0, d = 0] = v4.split('.').map(Number);
      return `2002:${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}::5`;
    },
  );
  fc.assert(
    fc.property(guarded, form, fc.integer({ min: 1, max: 65_535 }), (v4, write, port) => {
      assert.equal(guardAddress(write(v4), port, settings).ok, false);
    }),
  );
});
