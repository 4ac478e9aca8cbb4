import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatConnectionString,
  keyIdOf,
  MAX_CONNECTION_STRING_LENGTH,
  newKeyText,
  parseConnectionString,
  sasCredential,
} from '../../src/identity/index.ts';
import { isAppError } from '../../src/runtime/index.ts';

const KEY = 'q6U0W5i1mHnU4m2N2nZ4nN0b0Z8mU9z2i2S3o4p5q6E=';
const GOOD = `Endpoint=sb://relay.example.com/;SharedAccessKeyName=defaultSender;SharedAccessKey=${KEY};EntityPath=orders`;

const refuses = (text: string, pattern: RegExp): void => {
  assert.throws(
    () => parseConnectionString(text),
    (error) => {
      assert.ok(isAppError(error, 'ERR_IDENTITY_CONNECTION_STRING'));
      assert.match(error.message, pattern);
      assert.ok(!error.message.includes(KEY), 'the message holds the key');
      return true;
    },
  );
};

test('a connection string is read as Azure writes it', () => {
  assert.deepEqual(parseConnectionString(GOOD), {
    host: 'relay.example.com',
    keyName: 'defaultSender',
    key: KEY,
    entityPath: 'orders',
    notes: [],
  });
});

test('names in any case, parts in any order, port, spaces and a last ";" are fine', () => {
  const text = ` entitypath=/Orders/ ; SHAREDACCESSKEY=${KEY};sharedaccesskeyname=S;ENDPOINT=sb://Relay.Example.com:8443; `;
  assert.deepEqual(parseConnectionString(text), {
    host: 'relay.example.com',
    port: 8443,
    keyName: 'S',
    key: KEY,
    entityPath: 'orders',
    notes: [],
  });
});

test('settings of Azure clients are accepted with a note, unknown names are refused', () => {
  assert.deepEqual(parseConnectionString(`${GOOD};OperationTimeout=00:01:00`).notes, [
    'operationtimeout is accepted and ignored',
  ]);
  refuses(`${GOOD};Colour=red`, /unknown name "colour"/);
});

test('what is missing, doubled or malformed is named, the key never', () => {
  refuses(GOOD.replace(/SharedAccessKeyName=[^;]*;/, ''), /SharedAccessKeyName is missing/);
  refuses(GOOD.replace(/SharedAccessKey=[^;]*;/, ''), /SharedAccessKey is missing/);
  refuses(`SharedAccessKey=${KEY};${GOOD}`, /"SharedAccessKey" is given twice/);
  refuses(GOOD.replace('sb://relay.example.com/', 'relay.example.com'), /sb:\/\/HOST/);
  refuses(GOOD.replace('com/', 'com:70000/'), /port 70000 is not within 1 to 65535/);
  refuses(`${GOOD};${KEY}`, /without "name=value"|unknown name/);
  refuses(`${GOOD}\u0000x`, /control characters/);
  refuses(`${GOOD}\ud800`, /broken Unicode/);
  refuses('x'.repeat(MAX_CONNECTION_STRING_LENGTH + 1), /4097 characters, more than the limit of 4096/);
  refuses(`Endpoint=sb://h/;SharedAccessSignature=SharedAccessSignature sr=x`, /cannot be renewed/);
});

test('property: what is written is read back the same', () => {
  const name = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,60}$/);
  fc.assert(
    fc.property(
      fc.stringMatching(/^[a-z0-9]{1,20}(\.[a-z0-9]{1,20}){0,3}$/),
      fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: undefined }),
      name,
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.option(fc.stringMatching(/^[a-z0-9-]{1,63}$/), { nil: undefined }),
      (host, port, keyName, bytes, entityPath) => {
        const parts = {
          host,
          ...(port === undefined ? {} : { port }),
          keyName,
          key: Buffer.from(bytes).toString('base64'),
          ...(entityPath === undefined ? {} : { entityPath }),
        };
        assert.deepEqual(parseConnectionString(formatConnectionString(parts)), { ...parts, notes: [] });
      },
    ),
  );
});

test('property: any text is read or refused with our error', () => {
  const piece = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom(
      ';',
      '=',
      'Endpoint=sb://h/',
      'SharedAccessKey=',
      'SharedAccessKeyName=n',
      'EntityPath=e',
    ),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      try {
        parseConnectionString(pieces.join(''));
      } catch (error) {
        assert.ok(isAppError(error, 'ERR_IDENTITY_CONNECTION_STRING'), String(error));
      }
    }),
  );
});

test('a key is 32 bytes as base64, its id the start of its SHA-256', () => {
  const key = newKeyText();
  assert.equal(Buffer.from(key, 'base64').length, 32);
  assert.equal(key.length, 44);
  assert.equal(keyIdOf('abc'), 'k_ba7816bf8f01cfea4141');
});

test('the handle of a credential changes with its key and tells nothing of it', () => {
  const one = sasCredential(GOOD);
  assert.equal(one.handle, sasCredential(`${GOOD};OperationTimeout=1`).handle);
  assert.notEqual(one.handle, sasCredential(GOOD.replace(KEY, newKeyText())).handle);
  assert.ok(!JSON.stringify(one).includes(KEY));
});
