import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FLAG_FIN, FLAG_MOVABLE, FRAME, MAX_PAYLOAD_BYTES } from '../../../src/protocol/session/constants.ts';
import { encodeFrame, readValue, writeValue } from '../../../src/protocol/session/frame-header.ts';
import { FrameReader, type FrameSink } from '../../../src/protocol/session/frame-reader.ts';
import { isAppError } from '../../../src/runtime/index.ts';
import { json, rawAccept, rawCredit, rawData, rawReset } from './support.ts';

interface Seen {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly value: number;
  readonly payload: string;
}

/** Decodes the chunks; pieces of DATA are joined so that cuts do not show. */
const decode = (chunks: readonly Buffer[], reader = new FrameReader()): Seen[] => {
  const seen: Seen[] = [];
  let data: { stream: number; flags: number; value: number; length: number; pieces: Buffer[] } | undefined;
  const sink: FrameSink = {
    dataStart: (stream, flags, value, length) => {
      data = { stream, flags, value, length, pieces: [] };
    },
    dataPiece: (piece) => {
      assert.ok(piece.length > 0);
      data?.pieces.push(piece);
    },
    dataEnd: () => {
      assert.ok(data !== undefined);
      const payload = Buffer.concat(data.pieces);
      assert.equal(payload.length, data.length);
      const { stream, flags, value } = data;
      seen.push({ type: FRAME.DATA, flags, stream, value, payload: payload.toString('hex') });
      data = undefined;
    },
    frame: (type, flags, stream, value, payload) => {
      seen.push({ type, flags, stream, value, payload: payload.toString('hex') });
    },
  };
  for (const chunk of chunks) reader.push(chunk, sink);
  return seen;
};

const refused = (frame: Buffer): void => {
  assert.throws(
    () => decode([frame]),
    (error) => isAppError(error, 'ERR_SESSION_FRAME_INVALID'),
  );
};

describe('frame vectors', () => {
  const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
  const vectors: readonly (readonly [string, Buffer, string, Seen])[] = [
    [
      'OPEN',
      encodeFrame(FRAME.OPEN, 0, 1, 262_144, Buffer.from('{}')),
      '02 00 0002 00000001 0000000000040000 7b7d',
      { type: 2, flags: 0, stream: 1, value: 262_144, payload: '7b7d' },
    ],
    [
      'ACCEPT',
      rawAccept(1),
      '03 00 001d 00000001 0000000000040000 7b226465636973696f6e5f6964223a226431222c22657874223a7b7d7d',
      {
        type: 3,
        flags: 0,
        stream: 1,
        value: 262_144,
        payload: json({ decision_id: 'd1', ext: {} }).toString('hex'),
      },
    ],
    [
      'REFUSE',
      encodeFrame(FRAME.REFUSE, FLAG_MOVABLE, 7, 46, json({ code: 'overloaded', ext: {} })),
      '04 01 001e 00000007 000000000000002e 7b22636f6465223a226f7665726c6f61646564222c22657874223a7b7d7d',
      {
        type: 4,
        flags: 1,
        stream: 7,
        value: 46,
        payload: json({ code: 'overloaded', ext: {} }).toString('hex'),
      },
    ],
    [
      'DATA with FIN',
      rawData(0xffff_ffff, 2 ** 53 - 1, Buffer.from('ab'), FLAG_FIN),
      '05 01 0002 ffffffff 001fffffffffffff 6162',
      { type: 5, flags: 1, stream: 0xffff_ffff, value: 2 ** 53 - 1, payload: '6162' },
    ],
    [
      'CREDIT with FIN',
      rawCredit(3, 2 ** 32 + 5, 2 ** 32 + 1, FLAG_FIN),
      '06 01 0008 00000003 0000000100000005 0000000100000001',
      { type: 6, flags: 1, stream: 3, value: 2 ** 32 + 5, payload: '0000000100000001' },
    ],
    [
      'BLOCKED',
      encodeFrame(FRAME.BLOCKED, 0, 3, 262_144),
      '07 00 0000 00000003 0000000000040000',
      { type: 7, flags: 0, stream: 3, value: 262_144, payload: '' },
    ],
    [
      'RESET',
      rawReset(3, 17, 20),
      '08 00 0002 00000003 0000000000000011 0014',
      { type: 8, flags: 0, stream: 3, value: 17, payload: '0014' },
    ],
    [
      'PING',
      encodeFrame(FRAME.PING, 0, 0, 42),
      '09 00 0000 00000000 000000000000002a',
      { type: 9, flags: 0, stream: 0, value: 42, payload: '' },
    ],
    [
      'PONG',
      encodeFrame(FRAME.PONG, 0, 0, 42),
      '0a 00 0000 00000000 000000000000002a',
      { type: 10, flags: 0, stream: 0, value: 42, payload: '' },
    ],
    [
      'GOAWAY',
      encodeFrame(FRAME.GOAWAY, 0, 0, 9, Buffer.from('{}')),
      '0b 00 0002 00000000 0000000000000009 7b7d',
      { type: 11, flags: 0, stream: 0, value: 9, payload: '7b7d' },
    ],
  ];
  for (const [name, encoded, vector, seen] of vectors) {
    test(name, () => {
      assert.equal(encoded.toString('hex'), hex(vector).toString('hex'));
      assert.deepEqual(decode([hex(vector)]), [seen]);
    });
  }
});

test('a u64 above 2^53 - 1 is no value', () => {
  const bytes = Buffer.from('0020000000000000', 'hex');
  assert.equal(readValue(bytes, 0), undefined);
  writeValue(bytes, 0, Number.MAX_SAFE_INTEGER);
  assert.equal(readValue(bytes, 0), Number.MAX_SAFE_INTEGER);
});

const anyFrame: fc.Arbitrary<Buffer> = fc.oneof(
  fc
    .record({
      stream: fc.integer({ min: 1, max: 0xffff_ffff }),
      offset: fc.maxSafeNat(),
      fin: fc.boolean(),
      length: fc.oneof(fc.integer({ min: 0, max: 200 }), fc.constant(MAX_PAYLOAD_BYTES)),
      fill: fc.integer({ min: 0, max: 255 }),
    })
    .map(({ stream, offset, fin, length, fill }) =>
      rawData(stream, offset, Buffer.alloc(length, fill), fin ? FLAG_FIN : 0),
    ),
  fc
    .tuple(fc.integer({ min: 1, max: 0xffff_ffff }), fc.maxSafeNat(), fc.maxSafeNat())
    .map(([stream, limit, consumed]) => rawCredit(stream, limit, consumed)),
  fc.maxSafeNat().map((opaque) => encodeFrame(FRAME.PING, 0, 0, opaque)),
  fc
    .tuple(fc.integer({ min: 1, max: 99 }), fc.string({ maxLength: 300 }))
    .map(([stream, label]) => encodeFrame(FRAME.OPEN, 0, stream, 1, json({ label }))),
  fc
    .tuple(fc.integer({ min: 1, max: 99 }), fc.integer({ min: 0, max: 65_535 }))
    .map(([stream, reason]) => rawReset(stream, 0, reason)),
);

/** Cuts the bytes at the given places. */
const cut = (bytes: Buffer, places: readonly number[]): Buffer[] => {
  const sorted = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  const ends = [...sorted, bytes.length];
  return ends.map((end, i) => bytes.subarray(i === 0 ? 0 : ends[i - 1], end)).filter((one) => one.length > 0);
};

test('where a sequence of frames is cut makes no difference', () => {
  fc.assert(
    fc.property(
      fc.array(anyFrame, { maxLength: 12 }),
      fc.array(fc.nat({ max: 1_000_000 }), { maxLength: 60 }),
      (frames, places) => {
        const bytes = Buffer.concat(frames);
        const whole = decode([bytes]);
        assert.equal(whole.length, frames.length);
        assert.deepEqual(decode(cut(bytes, places)), whole);
      },
    ),
    { numRuns: 300 },
  );
});

test('byte by byte, the reader holds one header or one small payload and no more', () => {
  const reader = new FrameReader();
  const bytes = Buffer.concat([
    rawData(1, 0, Buffer.alloc(5_000, 1)),
    encodeFrame(FRAME.OPEN, 0, 2, 1, json({ label: 'x'.repeat(900) })),
  ]);
  let most = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    decode1(reader, bytes.subarray(at, at + 1));
    most = Math.max(most, reader.heldBytes);
  }
  assert.ok(most <= 1024, `held ${most} bytes`);
});

const decode1 = (reader: FrameReader, chunk: Buffer): void => {
  const nothing = (): void => undefined;
  reader.push(chunk, { dataStart: nothing, dataPiece: nothing, dataEnd: nothing, frame: nothing });
};

test('pieces of DATA are views of what was pushed, handed on without waiting for the rest', () => {
  const chunk = rawData(1, 0, Buffer.alloc(1000, 7)).subarray(0, 500);
  const pieces: Buffer[] = [];
  const nothing = (): void => undefined;
  new FrameReader().push(chunk, {
    dataStart: nothing,
    dataPiece: (piece) => pieces.push(piece),
    dataEnd: nothing,
    frame: nothing,
  });
  assert.equal(pieces.length, 1);
  assert.equal(pieces[0]?.buffer, chunk.buffer);
  assert.equal(pieces[0].length, 484);
});

describe('what is not a frame', () => {
  for (const type of [0, 12, 13, 14, 255]) {
    test(`type ${type}`, () => refused(encodeFrame(type, 0, 1, 0)));
  }
  test('reserved flags', () => {
    refused(rawData(1, 0, Buffer.from('x'), 0x02));
    refused(rawData(1, 0, Buffer.from('x'), 0x04));
    refused(encodeFrame(FRAME.PING, 1, 0, 0));
    refused(rawCredit(1, 1, 1, 0x80));
  });
  test('payload too long or too short', () => {
    refused(encodeFrame(FRAME.DATA, 0, 1, 0, Buffer.alloc(MAX_PAYLOAD_BYTES + 1)));
    refused(encodeFrame(FRAME.RESET, 0, 1, 0, Buffer.alloc(3)));
    refused(encodeFrame(FRAME.CREDIT, 0, 1, 0, Buffer.alloc(7)));
    refused(encodeFrame(FRAME.PING, 0, 0, 0, Buffer.alloc(1)));
    refused(encodeFrame(FRAME.GOAWAY, 0, 0, 0));
    refused(encodeFrame(FRAME.OPEN, 0, 1, 0, Buffer.alloc(16 * 1024 + 1)));
  });
  test('stream number where none belongs, or none where one does', () => {
    refused(encodeFrame(FRAME.PING, 0, 1, 0));
    refused(rawData(0, 0, Buffer.from('x')));
  });
  test('value above 2^53 - 1', () => {
    const frame = encodeFrame(FRAME.PING, 0, 0, 0);
    frame[8] = 0xff;
    refused(frame);
  });
  test('any bytes at all end in frames or in the one error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        try {
          decode([Buffer.from(bytes)]);
        } catch (error) {
          assert.ok(isAppError(error, 'ERR_SESSION_FRAME_INVALID'));
        }
      }),
      { numRuns: 2000 },
    );
  });
});
