import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FRAME, MAX_HELLO_BYTES } from '../../../src/protocol/session/constants.ts';
import { encodeFrame } from '../../../src/protocol/session/frame-header.ts';
import { encodeHello, HelloReader } from '../../../src/protocol/session/hello.ts';
import { isAppError } from '../../../src/runtime/index.ts';
import { helloOf, json } from './support.ts';

const refused = (...chunks: Buffer[]): void => {
  const reader = new HelloReader();
  assert.throws(
    () => {
      for (const chunk of chunks) reader.push(chunk);
    },
    (error) => isAppError(error, 'ERR_SESSION_HELLO_INVALID'),
  );
};

const frameOf = (payload: object): Buffer => encodeFrame(FRAME.HELLO, 0, 0, 0, json(payload));

test('HELLO begins with type 1, its length and zeros', () => {
  const frame = encodeHello(helloOf('agent'));
  const length = (frame.length - 16).toString(16).padStart(4, '0');
  assert.equal(frame.subarray(0, 16).toString('hex'), `0100${length}000000000000000000000000`);
  assert.deepEqual(JSON.parse(frame.subarray(16).toString('utf8')), helloOf('agent'));
});

test('HELLO is read out of chunks cut anywhere, and what is behind it is left', () => {
  const own = helloOf('gateway');
  const bytes = Buffer.concat([encodeHello(own), Buffer.from('behind')]);
  fc.assert(
    fc.property(fc.integer({ min: 1, max: bytes.length - 7 }), (at) => {
      const reader = new HelloReader();
      assert.equal(reader.push(bytes.subarray(0, at)), undefined);
      const found = reader.push(bytes.subarray(at));
      assert.deepEqual(found?.hello, own);
      assert.equal(found.rest.toString(), 'behind');
    }),
  );
});

test('unknown fields of HELLO are ignored', () => {
  const found = new HelloReader().push(frameOf({ ...helloOf('agent'), later: 1 }));
  assert.deepEqual(found?.hello, helloOf('agent'));
});

test('poison text in HELLO is cleaned', () => {
  const found = new HelloReader().push(frameOf({ ...helloOf('agent'), name: 'a\u0000b\ud800' }));
  assert.equal(found?.hello.name, 'a\ufffdb\ufffd');
});

test('a first frame that is no HELLO is found out at its first byte', () => {
  refused(Buffer.from([FRAME.OPEN]));
  refused(Buffer.from('GET / HTTP/1.1\r\n'));
});

test('HELLO with flags, a stream number, a value or too long a payload is refused', () => {
  refused(encodeFrame(FRAME.HELLO, 1, 0, 0, json({})));
  refused(encodeFrame(FRAME.HELLO, 0, 1, 0, json({})));
  refused(encodeFrame(FRAME.HELLO, 0, 0, 1, json({})));
  refused(encodeFrame(FRAME.HELLO, 0, 0, 0, Buffer.alloc(MAX_HELLO_BYTES + 1, 0x20)));
});

test('HELLO that is no JSON, lacks a field or has a senseless one is refused', () => {
  refused(encodeFrame(FRAME.HELLO, 0, 0, 0, Buffer.from('{')));
  refused(encodeFrame(FRAME.HELLO, 0, 0, 0, Buffer.from('[]')));
  for (const field of Object.keys(helloOf('agent')))
    refused(frameOf({ ...helloOf('agent'), [field]: undefined }));
  refused(frameOf({ ...helloOf('agent'), v: 2 }));
  refused(frameOf({ ...helloOf('agent'), role: 'relay' }));
  refused(frameOf(helloOf('agent', { frame: 0 })));
  refused(frameOf(helloOf('agent', { frame: 65_537 })));
  refused(frameOf(helloOf('agent', { early: 16 * 1024 + 1 })));
  refused(frameOf(helloOf('agent', { streams: 0 })));
});
