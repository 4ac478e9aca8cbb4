import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  createSasToken,
  MAX_SAS_TOKEN_LENGTH,
  newKeyText,
  parseSasToken,
  resourceMatches,
  sasCredential,
  verifySasToken,
} from '../../src/identity/index.ts';
import { isAppError } from '../../src/runtime/index.ts';

const KEY = 'q6U0W5i1mHnU4m2N2nZ4nN0b0Z8mU9z2i2S3o4p5q6E=';

const sign = (raw: string, expiry: string, key = KEY): string =>
  encodeURIComponent(createHmac('sha256', key).update(`${raw}\n${expiry}`).digest('base64'));

const refuses = (text: string, pattern: RegExp): void => {
  assert.throws(
    () => parseSasToken(text),
    (error) => isAppError(error, 'ERR_IDENTITY_SAS_TOKEN') && pattern.test(error.message),
    text,
  );
};

test('a token of Azure: its vector is reproduced to the byte', () => {
  const token = createSasToken({
    resource: 'http://relay.example.com/orders',
    keyName: 'defaultSender',
    key: KEY,
    expiresAtS: 1_900_000_000,
  });
  const raw = 'http%3A%2F%2Frelay.example.com%2Forders';
  assert.equal(
    token,
    `SharedAccessSignature sr=${raw}&sig=${sign(raw, '1900000000')}&se=1900000000&skn=defaultSender`,
  );
});

test('the signature is over sr as it stands: lower-case escapes and none at all verify too', () => {
  for (const raw of [
    'http%3a%2f%2frelay.example.com%2forders',
    'http://relay.example.com/orders/',
    'sb%3A//h',
  ]) {
    const text = `SharedAccessSignature sr=${raw}&sig=${sign(raw, '1900000000')}&se=1900000000&skn=n`;
    assert.ok(verifySasToken(parseSasToken(text), KEY), raw);
  }
});

test('fields in any order, the prefix in any case, unknown fields, an unescaped "+" in sig', () => {
  const raw = 'http%3A%2F%2Fh%2Fc';
  const plain = createHmac('sha256', KEY).update(`${raw}\n1900000000`).digest('base64');
  const texts = [
    `SharedAccessSignature skn=n&se=1900000000&sr=${raw}&sig=${encodeURIComponent(plain)}`,
    `sharedaccesssignature   se=1900000000&sig=${plain.replaceAll('+', ' ')}&skn=n&sr=${raw}&new=1`,
  ];
  for (const text of texts) assert.ok(verifySasToken(parseSasToken(text), KEY), text);
});

test('what is missing, doubled or malformed is refused', () => {
  const sig = sign('r', '1');
  refuses('Bearer x', /does not begin/);
  refuses(`SharedAccessSignature sig=${sig}&se=1&skn=n`, /field sr is missing/);
  refuses(`SharedAccessSignature sr=r&sr=r&sig=${sig}&se=1&skn=n`, /"sr" is given twice/);
  refuses(`SharedAccessSignature sr=r&sig=${sig}&se=1.5&skn=n`, /se is not a whole number/);
  refuses(`SharedAccessSignature sr=r&sig=${sig}&se=1&skn=`, /field skn is missing/);
  refuses(`SharedAccessSignature sr=%zz&sig=${sig}&se=1&skn=n`, /sr is not valid percent-encoding/);
  refuses('SharedAccessSignature sr=r&sig=AAAA&se=1&skn=n', /sig has 3 bytes, not 32/);
  refuses(`SharedAccessSignature ${'x'.repeat(MAX_SAS_TOKEN_LENGTH)}`, /more than the limit of 4096/);
});

test('sr matches by host and path prefix; scheme, port, slash, query and case mean nothing', () => {
  const wanted = { host: 'relay.example.com', connection: 'orders' };
  for (const good of [
    'http://relay.example.com/orders',
    'sb://RELAY.example.com:443/Orders/',
    'relay.example.com/orders?x=1#y',
    'https://relay.example.com',
    'https://relay.example.com/',
    'amqps://relay.example.com:5671//',
  ])
    assert.ok(resourceMatches(good, wanted), good);
  for (const bad of [
    '',
    '/',
    '/orders',
    'http://relay.example.com/order',
    'http://relay.example.com/orders2',
    'http://relay.example.com/orders/sub',
    'http://relay.example.com.evil/orders',
    'http://evil/relay.example.com/orders',
    'http://relay.example.com@evil/orders',
    'http://evil?relay.example.com/orders',
    'http://relay.example.com/../orders',
    'http://xrelay.example.com/orders',
  ])
    assert.ok(!resourceMatches(bad, wanted), bad);
  assert.ok(resourceMatches('http://[::1]:80/orders', { host: '::1', connection: 'orders' }));
});

test('property: a token verifies with its key, with no other, and not after any change of a signed field', () => {
  fc.assert(
    fc.property(
      fc.webUrl(),
      fc.integer({ min: 0, max: 99_999_999_999 }),
      fc.string({ minLength: 1, maxLength: 60, unit: 'grapheme' }),
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      (resource, expiresAtS, keyName, bytes) => {
        const key = Buffer.from(bytes).toString('base64');
        const token = parseSasToken(createSasToken({ resource, keyName, key, expiresAtS }));
        assert.equal(token.resource, resource);
        assert.equal(token.keyName, keyName);
        assert.equal(token.expiresAtS, expiresAtS);
        assert.ok(verifySasToken(token, key));
        assert.ok(!verifySasToken(token, newKeyText()));
        assert.ok(!verifySasToken({ ...token, rawResource: `${token.rawResource}%2F` }, key));
        assert.ok(!verifySasToken({ ...token, rawExpiry: `${token.rawExpiry}0` }, key));
      },
    ),
  );
});

test('property: the order of fields does not matter', () => {
  const fields = createSasToken({ resource: 'http://h/c', keyName: 'n', key: KEY, expiresAtS: 1_900_000_000 })
    .slice('SharedAccessSignature '.length)
    .split('&');
  fc.assert(
    fc.property(fc.shuffledSubarray(fields, { minLength: 4 }), (order) => {
      assert.ok(verifySasToken(parseSasToken(`SharedAccessSignature ${order.join('&')}`), KEY));
    }),
  );
});

test('property: any text is read or refused with our error, and any resource matches or does not', () => {
  const piece = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('&', '=', '%', 'sr=', 'sig=', 'se=1', 'skn=n', 'SharedAccessSignature '),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const text = pieces.join('');
      assert.equal(typeof resourceMatches(text, { host: 'h', connection: 'c' }), 'boolean');
      try {
        parseSasToken(text);
      } catch (error) {
        assert.ok(isAppError(error, 'ERR_IDENTITY_SAS_TOKEN'), String(error));
      }
    }),
  );
});

test('a credential mints tokens that verify, for its connection and for an hour', () => {
  const text = `Endpoint=sb://relay.example.com:8443/;SharedAccessKeyName=S;SharedAccessKey=${KEY};EntityPath=orders`;
  const { token, expiresAtMs } = sasCredential(text).mint(1_000_000_500);
  const parsed = parseSasToken(token);
  assert.ok(verifySasToken(parsed, KEY));
  assert.ok(resourceMatches(parsed.resource, { host: 'relay.example.com', connection: 'orders' }));
  assert.equal(expiresAtMs, 1_003_600_000);
  assert.equal(parsed.expiresAtS * 1000, expiresAtMs);
});
