import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { relayConfigSchema } from '../../src/relay/config.ts';
import { proxyAddressProblem, TrustedProxies } from '../../src/relay/trusted-proxies.ts';
import { ConfigError, parseConfig } from '../../src/runtime/index.ts';

const REST = `namespace: n
node: a
state_dir: s
listen: ['127.0.0.1:1']
tls: {cert_file: c, key_file: k}
public: {host: h, control_port: 1, data_ports: [1]}
admin: {listen: '127.0.0.1:2'}
status: {listen: '127.0.0.1:3'}
control: {database_url: d, keyring_file: k}
audit: {spool_dir: s, key_file: k}
`;

const configured = (list: string) =>
  parseConfig(`trusted_proxies:\n${list}\n${REST}`, '/etc/relay.yaml', relayConfigSchema, {
    environment: {},
  });

test('a malformed entry is refused with its place and the remedy', () => {
  const cases: [string, string][] = [
    ['  - 10.0.0.0/33', '2:5: trusted_proxies.0: prefix /33 of "10.0.0.0/33" is longer than 32'],
    [
      '  - 10.0.0.5/8',
      '2:5: trusted_proxies.0: "10.0.0.5/8" has bits behind its prefix; the range is 10.0.0.0/8',
    ],
    [
      '  - ::ffff:10.0.0.5/104',
      '2:5: trusted_proxies.0: "::ffff:10.0.0.5/104" has bits behind its prefix; the range is 10.0.0.0/8',
    ],
    ['  - fd00::1/129', '2:5: trusted_proxies.0: prefix /129 of "fd00::1/129" is longer than 128'],
    [
      '  - proxy.test',
      '2:5: trusted_proxies.0: "proxy.test" is neither an address nor ADDRESS/PREFIX, like 10.1.0.0/16 or fd00::7',
    ],
    [
      '  - "fe80::1%eth0"',
      '2:5: trusted_proxies.0: "fe80::1%eth0" is neither an address nor ADDRESS/PREFIX, like 10.1.0.0/16 or fd00::7',
    ],
    [
      '  - 0.0.0.0/0',
      '2:5: trusted_proxies.0: "0.0.0.0/0" is every address: any client could name any source',
    ],
    [
      '  - ::ffff:0:0/96',
      '2:5: trusted_proxies.0: "::ffff:0:0/96" is every address: any client could name any source',
    ],
    [
      '  - {address: 10.0.0.1/8x, sends: proxy_protocol}',
      '2:15: trusted_proxies.0.address: "10.0.0.1/8x" is neither an address nor ADDRESS/PREFIX, like 10.1.0.0/16 or fd00::7',
    ],
    [
      '  - {address: 10.0.0.1, sends: proxy}',
      '2:32: trusted_proxies.0.sends: invalid option: expected one of "x_forwarded_for"|"proxy_protocol"|"nothing"',
    ],
    [
      '  - {address: nobody, sends: proxy}',
      '2:15: trusted_proxies.0.address: "nobody" is neither an address nor ADDRESS/PREFIX, like 10.1.0.0/16 or fd00::7',
    ],
    [
      '  - 10.0.0.1\n  - {address: "::ffff:10.0.0.1", sends: nothing}',
      '3:5: trusted_proxies.1: 10.0.0.1 is listed twice',
    ],
  ];
  for (const [list, problem] of cases) {
    assert.throws(
      () => configured(list),
      (error) => {
        assert.ok(error instanceof ConfigError);
        assert.equal(error.message.split('\n')[0], `/etc/relay.yaml:${problem}`);
        return true;
      },
      list,
    );
  }
});

test('an address is matched in every form it can have, and the longest range decides', () => {
  const proxies = new TrustedProxies(
    configured(`  - 10.0.0.0/8
  - {address: 10.1.0.0/16, sends: proxy_protocol}
  - {address: '::ffff:10.1.2.0/120', sends: nothing}
  - 192.0.2.7
  - FD00:0:0::/33`).trusted_proxies,
  );
  const cases: [string, string | undefined][] = [
    ['10.200.0.1', 'x_forwarded_for'],
    ['10.1.255.255', 'proxy_protocol'],
    ['10.1.2.255', 'nothing'],
    ['10.1.3.0', 'proxy_protocol'],
    ['11.0.0.0', undefined],
    ['9.255.255.255', undefined],
    ['192.0.2.7', 'x_forwarded_for'],
    ['192.0.2.6', undefined],
    ['fd00:0:7fff::1', 'x_forwarded_for'],
    ['fd00:0:8000::1', undefined],
    ['unknown', undefined],
  ];
  for (const [address, sends] of cases) assert.equal(proxies.sends(address), sends, address);
});

test('a range holds exactly the addresses with its first bits', () => {
  const number = fc.bigInt({ min: 0n, max: 0xffff_ffffn });
  const text = (value: bigint): string =>
    [24n, 16n, 8n, 0n].map((shift) => String((value >> shift) & 0xffn)).join('.');
  fc.assert(
    fc.property(number, number, fc.integer({ min: 1, max: 32 }), (first, other, prefixBits) => {
      const shift = BigInt(32 - prefixBits);
      const range = `${text((first >> shift) << shift)}/${prefixBits}`;
      assert.equal(proxyAddressProblem(range), undefined);
      const isInside = first >> shift === other >> shift;
      assert.equal(new TrustedProxies([range]).sends(text(other)) !== undefined, isInside);
      assert.notEqual(new TrustedProxies([range]).sends(text(first)), undefined);
    }),
  );
});

test('X-Forwarded-For is read from the right, over trusted hops only', () => {
  const proxies = new TrustedProxies([
    '10.0.0.0/8',
    'fd00::7',
    { address: '10.9.0.0/16', sends: 'proxy_protocol' },
    { address: '10.8.0.1', sends: 'nothing' },
  ]);
  const cases: [string, string | undefined, string | undefined, string][] = [
    ['203.0.113.9', '198.51.100.1', '203.0.113.9', 'who is not trusted is not heard'],
    ['10.0.0.1', '198.51.100.1', '198.51.100.1', 'one proxy'],
    ['10.0.0.1', '6.6.6.6, 198.51.100.1', '198.51.100.1', 'what the client said itself is not believed'],
    ['10.0.0.1', '6.6.6.6, 198.51.100.1, 10.0.0.2, fd00::7', '198.51.100.1', 'several proxies'],
    ['10.0.0.1', '6.6.6.6 ,\t::ffff:198.51.100.1', '198.51.100.1', 'canonical form'],
    ['10.0.0.1', '2001:DB8:0::1', '2001:db8::1', 'IPv6'],
    ['10.0.0.1', '[2001:db8::1]:4711', '2001:db8::1', 'IPv6 with a port'],
    ['10.0.0.1', '198.51.100.1:4711', '198.51.100.1', 'IPv4 with a port'],
    ['10.0.0.1', undefined, undefined, 'absent, never the proxy'],
    ['10.0.0.1', '', undefined, 'empty'],
    ['10.0.0.1', '6.6.6.6, unknown', undefined, 'a word stops the walk'],
    ['10.0.0.1', '6.6.6.6, ', undefined, 'an empty hop stops the walk'],
    ['10.0.0.1', '10.0.0.3', undefined, 'only proxies'],
    ['10.0.0.1', '6.6.6.6, 10.9.0.1', undefined, 'a proxy that adds no X-Forwarded-For ends the walk'],
    ['10.8.0.1', '6.6.6.6', undefined, 'from a proxy that sends nothing'],
    ['10.9.0.1', '6.6.6.6', undefined, 'from a proxy of the other kind'],
  ];
  for (const [from, header, source, why] of cases) assert.equal(proxies.sourceOf(from, header), source, why);
});
