import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type ControlMessage,
  decodeMessage,
  encodeMessage,
  MAX_MESSAGE_BYTES,
  MAX_PAGE_ITEMS,
} from '../../../src/protocol/control/messages.ts';
import { isAppError } from '../../../src/runtime/index.ts';

const known = (text: string): ControlMessage => {
  const message = decodeMessage(text);
  assert.ok(message.t !== undefined);
  return message;
};

const refuses = (text: string): void => {
  assert.throws(
    () => decodeMessage(text),
    (error) => isAppError(error, 'ERR_CONTROL_LINK_MESSAGE'),
  );
};

test('a message is written and read again', () => {
  const body = { key_id: 'k_1', reason: 'key_revoked', revocation_id: 'r-1' };
  const message = known(encodeMessage('revoked', 7, body, 3));
  assert.deepEqual(message, { t: 'revoked', id: 7, re: 3, body });
  assert.equal(
    encodeMessage('goaway', 1, { deadline_ms: 30_000 }),
    '{"deadline_ms":30000,"t":"goaway","id":1}',
  );
});

test('unknown fields are ignored, an unknown type is told from a malformed message', () => {
  const message = known('{"t":"connection.gone","id":1,"name":"db","future":{"x":1}}');
  assert.deepEqual(message.body, { name: 'db' });
  assert.deepEqual(decodeMessage('{"t":"key.push","id":9,"anything":true}'), {
    t: undefined,
    type: 'key.push',
    id: 9,
  });
  refuses('{"t":"connection.gone","id":1}');
  refuses('{"t":"connection.gone","id":0,"name":"db"}');
  refuses('{"t":"connection.gone","name":"db"}');
  refuses('{"t":"toString","id":1,"re":-1}');
  refuses('[]');
  refuses('nope');
  assert.equal(decodeMessage('{"t":"toString","id":1}').t, undefined);
  assert.equal(decodeMessage('{"t":"__proto__","id":1}').t, undefined);
});

test('messages, lists and names have limits', () => {
  refuses(`{"t":"goaway","id":1,"deadline_ms":1,"x":"${'x'.repeat(MAX_MESSAGE_BYTES)}"}`);
  refuses(JSON.stringify({ t: 'connection.gone', id: 1, name: 'n'.repeat(129) }));
  const items = Array.from({ length: MAX_PAGE_ITEMS + 1 }, () => 'i');
  refuses(
    JSON.stringify({
      t: 'link.request',
      id: 1,
      cred: 'c',
      connection: 'db',
      spki: 'a'.repeat(64),
      exclude: items,
    }),
  );
  refuses(JSON.stringify({ t: 'publish', id: 1, cred: 'c', connection: 'db', spki: 'A'.repeat(64) }));
});

test('foreign text is cleaned at decode', () => {
  const poison = 'a\u0000b\ud800c';
  const message = known(JSON.stringify({ t: 'error', id: 1, code: poison, detail: poison }));
  assert.deepEqual(message.body, { code: 'a\ufffdb\ufffdc', detail: 'a\ufffdb\ufffdc' });
});

test('no text makes decoding throw anything but its own error', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        decodeMessage(text);
      } catch (error) {
        assert.ok(isAppError(error, 'ERR_CONTROL_LINK_MESSAGE'), String(error));
      }
    }),
    { numRuns: 1_000 },
  );
});
