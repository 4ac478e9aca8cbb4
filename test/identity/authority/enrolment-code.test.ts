import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  codeDigest,
  MAX_CODE_CHARS,
  newEnrolmentCode,
  parseEnrolmentCode,
} from '../../../src/identity/index.ts';
import { isAppError } from '../../../src/runtime/index.ts';

const SPKI = 'ab'.repeat(32);
const RELAY = { host: 'relay.example.com', port: 5671 };
const refused = (error: unknown) => isAppError(error, 'ERR_IDENTITY_CODE');

test('a code carries its secret, the authority to believe and the relay to ask', () => {
  const { text, ...made } = newEnrolmentCode({ authoritySpki: SPKI, relay: RELAY });
  assert.match(text, /^spe1_[A-Za-z0-9_-]+$/);
  assert.equal(made.secret.length, 16);
  assert.deepEqual(parseEnrolmentCode(` \n${text}\n`), made);
  const v6 = newEnrolmentCode({ authoritySpki: SPKI, relay: { host: '2001:db8::1', port: 443 } });
  assert.deepEqual(parseEnrolmentCode(v6.text).relay, { host: '2001:db8::1', port: 443 });
  const host = Array.from({ length: 4 }, () => 'a'.repeat(62)).join('.');
  assert.ok(
    newEnrolmentCode({ authoritySpki: SPKI, relay: { host, port: 65_535 } }).text.length <= MAX_CODE_CHARS,
  );
});

test('no two codes are alike, and what is stored of one does not tell it', () => {
  const made = Array.from({ length: 100 }, () => newEnrolmentCode({ authoritySpki: SPKI, relay: RELAY }));
  assert.equal(new Set(made.map(({ text }) => text)).size, 100);
  const [first] = made;
  assert.ok(first);
  assert.match(codeDigest(first.secret), /^[0-9a-f]{64}$/);
  assert.ok(!codeDigest(first.secret).includes(first.secret.toString('hex')));
});

test('a code that was cut, mistyped or made up is refused, and not shown', () => {
  const { text } = newEnrolmentCode({ authoritySpki: SPKI, relay: RELAY });
  fc.assert(
    fc.property(
      fc.integer({ min: 5, max: text.length - 1 }),
      fc.constantFrom('a', 'Z', '0', '-', '_'),
      (at, by) => {
        const typed = text.slice(0, at) + by + text.slice(at + 1);
        // The last character has bits that say nothing.
        const isSame = Buffer.from(typed.slice(5), 'base64url').equals(
          Buffer.from(text.slice(5), 'base64url'),
        );
        if (!isSame) assert.throws(() => parseEnrolmentCode(typed), refused);
        assert.throws(() => parseEnrolmentCode(text.slice(0, at)), refused);
      },
    ),
  );
  for (const wrong of [
    '',
    'spe1_',
    'spe2_abc',
    text.slice(5),
    `${text}!`,
    'c_0123456789abcdef.x',
    'x'.repeat(600),
  ]) {
    assert.throws(
      () => parseEnrolmentCode(wrong),
      (error: Error) => refused(error) && (wrong.length < 10 || !error.message.includes(wrong.slice(0, 10))),
    );
  }
});
