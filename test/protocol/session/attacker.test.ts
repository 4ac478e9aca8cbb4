import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  EARLY_BYTES,
  FLAG_FIN,
  FRAME,
  IDLE_FRAMES_BURST,
  INITIAL_WINDOW_BYTES,
  MAX_PAYLOAD_BYTES,
  MAX_QUEUED_MESSAGES,
  SESSION_LIMITS,
} from '../../../src/protocol/session/constants.ts';
import { encodeFrame } from '../../../src/protocol/session/frame-header.ts';
import type { IncomingOpen } from '../../../src/protocol/session/types.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import {
  againstRaw,
  Gate,
  json,
  metaOf,
  NO_BYTES,
  openStream,
  pattern,
  rawAccept,
  rawCredit,
  rawData,
  rawOpen,
  type RawPeer,
  rawReset,
  tcpPair,
  turns,
  until,
} from './support.ts';
import type { SessionCore } from '../../../src/protocol/session/session-core.ts';

const TIMEOUT = { timeout: 30_000 };

interface Attacked {
  readonly session: SessionCore;
  readonly raw: RawPeer;
  readonly incoming: IncomingOpen[];
  readonly end: () => { reason: string; detail?: string } | undefined;
}

/** An agent that leaves every open unanswered. */
const attackedAgent = (t: Parameters<typeof againstRaw>[0]): Attacked => {
  const incoming: IncomingOpen[] = [];
  const { session, raw } = againstRaw(t, 'agent', { onOpen: (one) => incoming.push(one) });
  let end: { reason: string; detail?: string } | undefined;
  session.onEnd((value) => {
    end = value;
  });
  return { session, raw, incoming, end: () => end };
};

/** The link ended protocol_error, said so in GOAWAY, and took its streams along. */
const linkEnded = async ({ raw, end, session }: Attacked): Promise<void> => {
  await until(() => end() !== undefined);
  assert.equal(end()?.reason, 'protocol_error');
  assert.ok((end()?.detail?.length ?? 0) > 0);
  assert.equal(session.streamCount, 0);
  const goAway = await raw.next(FRAME.GOAWAY);
  assert.equal((JSON.parse(goAway.payload.toString()) as { code: string }).code, 'protocol_error');
  await until(() => raw.closed);
};

/** The stream alone was reset with the reason; the link and stream 2 live. */
const streamEnded = async ({ session, raw, end }: Attacked, reason: number): Promise<void> => {
  const reset = await raw.next(FRAME.RESET);
  assert.equal(reset.stream, 1);
  assert.equal(reset.payload.readUInt16BE(0), reason);
  await turns(3);
  assert.equal(end(), undefined);
  assert.deepEqual(
    session.streams().map((stream) => stream.number),
    [2],
  );
};

const PROTOCOL_ERROR = 48;

describe('what ends the link', () => {
  const attacks: readonly (readonly [string, Buffer])[] = [
    ['an unknown type', encodeFrame(99, 0, 0, 0)],
    ['AUTH, which is reserved', encodeFrame(12, 0, 0, 0)],
    ['a second HELLO', encodeFrame(FRAME.HELLO, 0, 0, 0, json({}))],
    ['reserved flags', rawData(1, 0, pattern(1), 0x02)],
    ['a payload beyond a frame', encodeFrame(FRAME.DATA, 0, 1, 0, Buffer.alloc(MAX_PAYLOAD_BYTES + 1))],
    [
      'an OPEN longer than announced',
      encodeFrame(FRAME.OPEN, 0, 3, 0, Buffer.alloc(SESSION_LIMITS.meta + 1, 0x20)),
    ],
    ['DATA for a number above the highest', rawData(3, 0, pattern(1))],
    ['CREDIT for a number above the highest', rawCredit(3, 1, 0)],
    ['RESET for a number above the highest', rawReset(9, 0, 1)],
    ['OPEN of a number that was used', rawOpen(2)],
    ['ACCEPT from the side that opens', rawAccept(1)],
    ['REFUSE from the side that opens', encodeFrame(FRAME.REFUSE, 0, 1, 9, json({}))],
    ['GOAWAY that is no JSON', encodeFrame(FRAME.GOAWAY, 0, 0, 0, Buffer.from('[]'))],
    ['noise', Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n')],
  ];
  for (const [name, attack] of attacks) {
    test(name, TIMEOUT, async (t) => {
      const attacked = attackedAgent(t);
      attacked.raw.send(rawOpen(1), rawOpen(2), attack);
      await linkEnded(attacked);
      assert.ok(attacked.incoming.every((one) => one.aborted));
    });
  }

  test('OPEN to a gateway', TIMEOUT, async (t) => {
    const { session, raw } = againstRaw(t, 'gateway');
    let reason: string | undefined;
    session.onEnd((end) => {
      reason = end.reason;
    });
    raw.send(rawOpen(1));
    await until(() => reason !== undefined);
    assert.equal(reason, 'protocol_error');
  });

  test('a flood of PINGs that nobody lets us answer', TIMEOUT, async (t) => {
    const gate = new Gate();
    const { session, raw } = againstRaw(t, 'agent', { carry: gate.carry });
    let detail: string | undefined;
    session.onEnd((end) => {
      detail = end.detail;
    });
    await until(() => gate.holding);
    for (let i = 0; i < 100; i += 1) raw.send(encodeFrame(FRAME.PING, 0, 0, i));
    await until(() => detail !== undefined);
    assert.match(detail ?? '', /pings/);
  });

  for (const [name, frame] of [
    ['PINGs', encodeFrame(FRAME.PING, 0, 0, 1)],
    ['PONGs that were not asked for', encodeFrame(FRAME.PONG, 0, 0, 12_345)],
    ['CREDITs that say nothing new', rawCredit(1, 0, 0)],
    ['BLOCKEDs that say nothing new', encodeFrame(FRAME.BLOCKED, 0, 1, 5)],
    ['empty DATA', rawData(1, 0, NO_BYTES)],
    ['frames for a stream that ended', rawReset(2, 0, 1)],
  ] as const) {
    test(`a flood of ${name}: the count is bounded, at a clock that stands still`, TIMEOUT, async (t) => {
      const destination = await tcpPair(t);
      const { session, raw } = againstRaw(t, 'agent', {
        clock: new ManualClock(),
        onOpen: (incoming) => {
          if (incoming.number === 1) incoming.accept(destination.near, { decision_id: 'd' }, () => undefined);
        },
      });
      let detail: string | undefined;
      session.onEnd((end) => {
        detail = end.detail;
      });
      raw.send(rawOpen(1), rawOpen(2), rawReset(2, 0, 1));
      await raw.next(FRAME.ACCEPT);
      const batch = Buffer.concat(Array.from({ length: 1024 }, () => frame));
      for (let i = 0; i < IDLE_FRAMES_BURST / 1024; i += 1) {
        raw.send(batch);
        await turns(1);
      }
      raw.send(batch);
      await until(() => detail !== undefined);
      assert.match(detail ?? '', /change nothing|pings/);
    });
  }

  test(
    'a flood of OPENs whose refusals are never read: the queue is bounded by count',
    TIMEOUT,
    async (t) => {
      const gate = new Gate();
      const { session, raw } = againstRaw(t, 'agent', {
        carry: gate.carry,
        onOpen: (incoming) => incoming.refuse('overloaded', { movable: true }),
      });
      let detail: string | undefined;
      session.onEnd((end) => {
        detail = end.detail;
      });
      await until(() => gate.holding);
      for (let from = 0; from <= MAX_QUEUED_MESSAGES && detail === undefined; from += 1024) {
        raw.send(...Array.from({ length: 1024 }, (_, i) => rawOpen(from + i + 1)));
        await turns(1);
      }
      await until(() => detail !== undefined);
      assert.match(detail ?? '', /too many messages/);
    },
  );

  test('DATA for streams that we ended, beyond the credit that they had', TIMEOUT, async (t) => {
    const attacked = attackedAgent(t);
    attacked.raw.send(rawOpen(1), rawData(1, 0, pattern(1000)));
    await until(() => attacked.incoming.length === 1);
    attacked.incoming[0]?.refuse('policy_denied', { movable: false });
    await attacked.raw.next(FRAME.REFUSE);
    // What may have been on its way is dropped in silence.
    attacked.raw.send(rawData(1, 1000, pattern(EARLY_BYTES - 1000)));
    await turns(5);
    assert.equal(attacked.end(), undefined);
    attacked.raw.send(rawData(1, EARLY_BYTES, pattern(1)));
    await linkEnded(attacked);
  });
});

describe('what ends a stream and nothing else', () => {
  test('a gap in the offsets', TIMEOUT, async (t) => {
    const attacked = attackedAgent(t);
    attacked.raw.send(rawOpen(1), rawOpen(2), rawData(1, 0, pattern(10)), rawData(1, 11, pattern(1)));
    await streamEnded(attacked, PROTOCOL_ERROR);
  });

  test('an overlap, before there is a SYNC', TIMEOUT, async (t) => {
    const attacked = attackedAgent(t);
    attacked.raw.send(rawOpen(1), rawOpen(2), rawData(1, 0, pattern(10)), rawData(1, 5, pattern(10)));
    await streamEnded(attacked, PROTOCOL_ERROR);
  });

  test('DATA behind FIN', TIMEOUT, async (t) => {
    const attacked = attackedAgent(t);
    attacked.raw.send(
      rawOpen(1),
      rawOpen(2),
      rawData(1, 0, pattern(10), FLAG_FIN),
      rawData(1, 10, pattern(1)),
    );
    await streamEnded(attacked, PROTOCOL_ERROR);
  });

  test('more early data than 16 KiB', TIMEOUT, async (t) => {
    const attacked = attackedAgent(t);
    attacked.raw.send(rawOpen(1), rawOpen(2), rawData(1, 0, pattern(EARLY_BYTES + 1)));
    await streamEnded(attacked, 47);
    assert.equal(attacked.session.stats().earlyBytes, 0);
  });

  test(
    'CREDIT before ACCEPT, for bytes that were never sent, or for a FIN that was not',
    TIMEOUT,
    async (t) => {
      for (const credit of [
        rawCredit(1, INITIAL_WINDOW_BYTES, 1),
        rawCredit(1, INITIAL_WINDOW_BYTES, 0, FLAG_FIN),
      ]) {
        const { session, raw } = againstRaw(t, 'gateway');
        const { near, far } = await tcpPair(t);
        far.resume();
        const outcome = openStream(session, near);
        await raw.next(FRAME.OPEN);
        raw.send(rawAccept(1), credit);
        await until(() => outcome.end !== undefined);
        assert.equal(outcome.end?.reason, 'protocol_error');
      }
      const early = attackedAgent(t);
      early.raw.send(rawOpen(1), rawOpen(2), rawCredit(1, INITIAL_WINDOW_BYTES, 0));
      await streamEnded(early, PROTOCOL_ERROR);
    },
  );

  test('a second ACCEPT, or an ACCEPT that is no JSON', TIMEOUT, async (t) => {
    for (const frames of [
      [rawAccept(1), rawAccept(1)],
      [encodeFrame(FRAME.ACCEPT, 0, 1, 1, Buffer.from('no'))],
    ]) {
      const { session, raw } = againstRaw(t, 'gateway');
      const { near, far } = await tcpPair(t);
      far.resume();
      const outcome = openStream(session, near);
      await raw.next(FRAME.OPEN);
      raw.send(...frames);
      await until(() => outcome.end !== undefined);
      assert.equal(outcome.end?.reason, 'protocol_error');
      assert.equal((await raw.next(FRAME.RESET)).payload.readUInt16BE(0), PROTOCOL_ERROR);
    }
  });

  test('an OPEN whose payload makes no sense is refused', TIMEOUT, async (t) => {
    const attacked = attackedAgent(t);
    const good = metaOf();
    const bad: object[] = [
      [],
      {},
      { ...good, id: 'x' },
      { ...good, attempt: 0 },
      { ...good, kind: 'udp' },
      { ...good, claimed: 1 },
      { ...good, claimed: { port: 70_000 } },
      { ...good, parent: 5 },
      { ...good, ext: 'x' },
    ];
    bad.forEach((meta, i) => attacked.raw.send(encodeFrame(FRAME.OPEN, 0, i + 1, 0, json(meta))));
    await until(() => attacked.raw.sent(FRAME.REFUSE).length === bad.length);
    assert.ok(
      attacked.raw.sent(FRAME.REFUSE).every((frame) => frame.value === PROTOCOL_ERROR && frame.flags === 0),
    );
    assert.equal(attacked.incoming.length, 0);
    assert.equal(attacked.end(), undefined);
  });
});

test(
  'an ACCEPT that grants less than the early data used: FIN still leaves as a frame without payload',
  TIMEOUT,
  async (t) => {
    const { session, raw } = againstRaw(t, 'gateway');
    const { near, far } = await tcpPair(t);
    openStream(session, near, pattern(1000));
    assert.equal((await raw.next(FRAME.DATA)).payload.length, 1000);
    raw.send(rawAccept(1, 10));
    await turns(5);
    far.end();
    const fin = await raw.next(FRAME.DATA);
    assert.deepEqual([fin.flags, fin.value, fin.payload.length], [FLAG_FIN, 1000, 0]);
  },
);

test('frames for a stream that has ended are ignored', TIMEOUT, async (t) => {
  const attacked = attackedAgent(t);
  attacked.raw.send(rawOpen(1), rawReset(1, 0, 2));
  await until(() => attacked.incoming[0]?.aborted === true);
  attacked.raw.send(rawCredit(1, 5, 0), rawReset(1, 0, 2), encodeFrame(FRAME.BLOCKED, 0, 1, 0), rawOpen(2));
  await until(() => attacked.incoming.length === 2);
  assert.equal(attacked.end(), undefined);
});

test('streams beyond the announced limit are refused overloaded', TIMEOUT, async (t) => {
  const { session, raw } = againstRaw(t, 'agent', { onOpen: () => undefined, limits: { streams: 3 } });
  raw.send(rawOpen(1), rawOpen(2), rawOpen(3), rawOpen(4));
  const refuse = await raw.next(FRAME.REFUSE);
  assert.equal(refuse.stream, 4);
  assert.equal(refuse.value, 46);
  assert.equal(refuse.flags, 1);
  assert.equal(session.streamCount, 3);
});
