import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  configuredProxy,
  environmentProxy,
  proxySettingsSchema,
} from '../../../src/protocol/carrier/proxy.ts';
import { isAppError } from '../../../src/runtime/index.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const PROXY = 'http://proxy.test:3128';

const isDirect = (noProxy: string, host: string, port = 443): boolean =>
  environmentProxy({ HTTPS_PROXY: PROXY, NO_PROXY: noProxy })(host, port) === undefined;

test('exclusions are read as curl reads them', () => {
  for (const [noProxy, host] of [
    ['*', 'relay.test'],
    ['relay.test', 'relay.test'],
    ['relay.test', 'RELAY.test.'],
    ['.relay.test', 'relay.test'],
    ['relay.test.', 'a.relay.test'],
    ['*.relay.test', 'a.b.relay.test'],
    ['other, relay.test', 'relay.test'],
    ['other relay.test', 'relay.test'],
    ['10.0.0.1', '10.0.0.1'],
    ['10.0.0.0/8', '10.255.0.1'],
    ['10.0.0.7/8', '10.1.0.1'],
    ['0.0.0.0/0', '192.0.2.1'],
    ['[::1]', '::1'],
    ['fd00::/8', 'fd12::7'],
    ['[fd00::]/8', 'fd12::7'],
    ['relay.test:443', 'relay.test'],
    ['[::1]:443', '::1'],
  ] as const)
    assert.ok(isDirect(noProxy, host), `${noProxy} ${host}`);
  for (const [noProxy, host] of [
    ['', 'relay.test'],
    [',', 'relay.test'],
    ['lay.test', 'relay.test'],
    ['relay.test', 'relay.test.evil'],
    ['a.relay.test', 'relay.test'],
    ['.', 'relay.test'],
    ['10.0.0.0/8', '11.0.0.1'],
    ['10.0.0.0/33', '10.0.0.0'],
    ['10.0.0.0/x', '10.0.0.0'],
    ['0.0.1', '10.0.0.1'],
    ['10.0.0.1', 'relay.test'],
    ['fd00::/8', 'fe80::1'],
    ['10.0.0.0/8', 'fd00::1'],
    ['relay.test:80', 'relay.test'],
  ] as const)
    assert.ok(!isDirect(noProxy, host), `${noProxy} ${host}`);
});

test('the environment: lower case comes first, no scheme is http, credentials are kept apart', async () => {
  const at = (from: Record<string, string>) => environmentProxy(from)('relay.test', 443);
  assert.equal(at({}), undefined);
  assert.equal(at({ HTTPS_PROXY: '' }), undefined);
  assert.equal(at({ HTTPS_PROXY: 'http://upper:1', https_proxy: 'http://lower:2' })?.url.host, 'lower:2');
  assert.equal(
    at({ https_proxy: 'http://lower:2', https_proxy_: '', NO_PROXY: 'x', no_proxy: 'relay.test' }),
    undefined,
  );
  assert.equal(at({ HTTPS_PROXY: 'proxy.test:3128' })?.url.href, `${PROXY}/`);
  assert.equal(at({ HTTPS_PROXY: 'https://proxy.test' })?.url.protocol, 'https:');
  const proxy = at({ HTTPS_PROXY: 'http://us%3Aer:pa%20ss@proxy.test:3128' });
  assert.equal(proxy?.url.href, `${PROXY}/`);
  assert.equal(await proxy.credentials(), 'us:er:pa ss');
  assert.throws(
    () => at({ HTTPS_PROXY: 'socks5://proxy.test' }),
    (error) => isAppError(error, 'ERR_CARRIER_PROXY'),
  );
});

test('the configuration takes the place of the environment; its files are read at each use', async (t) => {
  const file = join(temporaryDirectory(t, 'proxy'), 'credentials');
  const settings = proxySettingsSchema.parse({
    url: 'http://in-url:secret@proxy.test:3128',
    no_proxy: ['10.0.0.0/8'],
    credentials_file: file,
  });
  const proxies = configuredProxy(settings);
  assert.equal(proxies('10.0.0.7', 443), undefined);
  const proxy = proxies('relay.test', 443);
  await assert.rejects(
    async () => proxy?.credentials(),
    (error) => isAppError(error, 'ERR_CARRIER_PROXY') && error.message.includes(file),
  );
  writeFileSync(file, 'one:1\n');
  assert.equal(await proxy?.credentials(), 'one:1');
  writeFileSync(file, 'two:2:3');
  assert.equal(await proxy?.credentials(), 'two:2:3');
  assert.equal(configuredProxy(proxySettingsSchema.parse({ url: 'none' }))('relay.test', 443), undefined);
  for (const wrong of [
    { url: 'socks5://proxy.test' },
    { url: 'proxy.test:3128' },
    { url: 'http://proxy.test/path' },
    { url: 'none', credentials_file: file },
    { url: PROXY, no_proxy: [''] },
    { url: PROXY, noproxy: [] },
  ])
    assert.ok(!proxySettingsSchema.safeParse(wrong).success, JSON.stringify(wrong));
});
