import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import {
  EARLY_BYTES,
  FLUSH_BYTES,
  FRAME,
  HEADER_BYTES,
  INITIAL_WINDOW_BYTES,
  LINK_GROWTH_BYTES,
  MAX_FRAME_BYTES,
  MAX_WINDOW_BYTES,
  MIN_WINDOW_CAP_BYTES,
  SEND_QUEUE_BYTES,
  SMALL_QUEUE_BYTES,
} from '../../../src/protocol/session/constants.ts';
import { encodeFrame } from '../../../src/protocol/session/frame-header.ts';
import { linkBudget, WindowBudget, windowCapFor } from '../../../src/protocol/session/window-budget.ts';
import { READ_BYTES } from '../../../src/runtime/index.ts';
import type { OpenMeta } from '../../../src/protocol/session/types.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import {
  againstRaw,
  Gate,
  metaOf,
  openStream,
  pattern,
  Received,
  rawAccept,
  rawCredit,
  rawData,
  rawOpen,
  tcpPair,
  tunnel,
  turns,
  until,
} from './support.ts';
import { fullDestination } from './full-destination.ts';

const TIMEOUT = { timeout: 30_000 };
/** What the tests write at a time. */
const PIECE_BYTES = 64 * 1024;

describe('credit', () => {
  test(
    'is granted for what the socket has taken, in steps of a quarter of the window',
    TIMEOUT,
    async (t) => {
      const destination = await tcpPair(t);
      destination.far.resume();
      const { raw } = againstRaw(t, 'agent', {
        onOpen: (incoming) => incoming.accept(destination.near, { decision_id: 'd' }, () => undefined),
      });
      raw.send(rawOpen(1));
      const accept = await raw.next(FRAME.ACCEPT);
      assert.equal(accept.value, INITIAL_WINDOW_BYTES);
      raw.send(rawData(1, 0, pattern(1000)), rawData(1, 1000, pattern(INITIAL_WINDOW_BYTES / 4 - 1001)));
      await turns(20);
      assert.deepEqual(raw.sent(FRAME.CREDIT), []);
      raw.send(rawData(1, INITIAL_WINDOW_BYTES / 4 - 1, pattern(1)));
      const credit = await raw.next(FRAME.CREDIT);
      assert.equal(credit.value, INITIAL_WINDOW_BYTES * 1.25);
      assert.equal(Number(credit.payload.readBigUInt64BE(0)), INITIAL_WINDOW_BYTES / 4);
    },
  );

  test(
    'is not granted for what still waits in the socket: held bytes stay within the window',
    TIMEOUT,
    async (t) => {
      const destination = await tcpPair(t);
      const { session, raw } = againstRaw(t, 'agent', {
        onOpen: (incoming) => incoming.accept(destination.near, { decision_id: 'd' }, () => undefined),
      });
      raw.send(rawOpen(1));
      let limit = (await raw.next(FRAME.ACCEPT)).value;
      let sent = 0;
      let most = 0;
      const chunk = pattern(32 * 1024);
      // The far end never reads: its kernel takes some, and then nothing more is credited.
      for (let still = 0; still < 60; still += 1) {
        while (sent < limit) {
          const payload = chunk.subarray(0, Math.min(chunk.length, limit - sent));
          raw.send(rawData(1, sent, payload));
          sent += payload.length;
          still = 0;
        }
        await turns(1);
        most = Math.max(most, destination.near.writableLength + (session.streams()[0]?.heldBytes ?? 0));
        for (const credit of raw.frames.splice(0)) limit = Math.max(limit, credit.value);
      }
      assert.equal(sent, limit);
      assert.ok(most > 0, 'the reader was never behind');
      assert.ok(most <= INITIAL_WINDOW_BYTES, `${most} bytes held`);
      // Once it reads, all of it arrives.
      const received = new Received(destination.far);
      await until(() => received.bytes === sent);
    },
  );

  test(
    'is policed: one byte too many resets the stream with flow_control and no other',
    TIMEOUT,
    async (t) => {
      const ends: string[] = [];
      const { session, raw } = againstRaw(t, 'agent', {
        onOpen: (incoming) => {
          incoming.onAbort((reason) => ends.push(reason));
        },
      });
      raw.send(rawOpen(1), rawOpen(2));
      raw.send(rawData(1, 0, pattern(EARLY_BYTES)));
      await until(() => session.stats().earlyBytes === EARLY_BYTES);
      raw.send(rawData(1, EARLY_BYTES, pattern(1)));
      const reset = await raw.next(FRAME.RESET);
      assert.equal(reset.stream, 1);
      assert.equal(reset.payload.readUInt16BE(0), 47);
      assert.deepEqual(ends, ['flow_control']);
      assert.equal(session.streamCount, 1);
      assert.equal(session.stats().earlyBytes, 0);
      assert.equal(raw.closed, false);
    },
  );

  test('ends sending until more comes; BLOCKED says so once per limit', TIMEOUT, async (t) => {
    const { session, raw } = againstRaw(t, 'gateway');
    const { near, far } = await tcpPair(t);
    openStream(session, near);
    await raw.next(FRAME.OPEN);
    raw.send(rawAccept(1, 100_000));
    far.write(pattern(250_000));
    const payload = (): number => raw.sent(FRAME.DATA).reduce((sum, frame) => sum + frame.payload.length, 0);
    await until(() => payload() === 100_000);
    const blocked = await raw.next(FRAME.BLOCKED);
    assert.equal(blocked.value, 100_000);
    await turns(20);
    assert.equal(payload(), 100_000);
    assert.deepEqual(raw.sent(FRAME.BLOCKED), []);
    assert.equal(session.stats().creditStalls, 1);
    raw.send(rawCredit(1, 200_000, 100_000));
    await until(() => payload() === 200_000);
    assert.equal((await raw.next(FRAME.BLOCKED)).value, 200_000);
    raw.send(rawCredit(1, 300_000, 200_000));
    await until(() => payload() === 250_000);
    const bytes = Buffer.concat(raw.sent(FRAME.DATA).map((frame) => frame.payload));
    assert.ok(bytes.equals(pattern(250_000)));
  });

  test('a sender holds at most its queue and one read for a peer that grants nothing', TIMEOUT, async (t) => {
    const { session, raw } = againstRaw(t, 'gateway');
    const { near, far } = await tcpPair(t);
    openStream(session, near);
    await raw.next(FRAME.OPEN);
    raw.send(rawAccept(1, 0));
    for (let i = 0; i < 200; i += 1) far.write(pattern(PIECE_BYTES));
    let most = 0;
    for (let i = 0; i < 300; i += 1) {
      await turns(1);
      most = Math.max(most, session.stats().queuedBytes + near.readableLength);
    }
    assert.ok(most >= SEND_QUEUE_BYTES / 2);
    assert.ok(most <= SEND_QUEUE_BYTES + READ_BYTES, `${most} bytes held`);
  });

  test('a stream that waits for credit too long ends blocked_timeout', TIMEOUT, async (t) => {
    const clock = new ManualClock();
    const { session, raw } = againstRaw(t, 'gateway', { clock, blockedTimeoutMs: 20_000 });
    const { near, far } = await tcpPair(t);
    const outcome = openStream(session, near);
    await raw.next(FRAME.OPEN);
    raw.send(rawAccept(1, 10));
    far.write(pattern(100));
    await raw.next(FRAME.BLOCKED);
    for (let i = 0; i < 6 && outcome.end === undefined; i += 1) {
      clock.advance(5_000);
      await turns(3);
    }
    assert.equal(outcome.end?.reason, 'blocked_timeout');
  });
});

/** Uses up all credit nine times, says BLOCKED each time, and answers the windows that were open then. */
const grownWindows = async (t: TestContext, roundTripMs: number | undefined): Promise<number[]> => {
  const clock = new ManualClock();
  const destination = await tcpPair(t);
  destination.far.resume();
  const { session, raw } = againstRaw(t, 'agent', {
    clock,
    onOpen: (incoming) => incoming.accept(destination.near, { decision_id: 'd' }, () => undefined),
  });
  const ping = await raw.next(FRAME.PING);
  if (roundTripMs !== undefined) {
    clock.advance(roundTripMs);
    raw.send(encodeFrame(FRAME.PONG, 0, 0, ping.value));
    await until(() => session.stats().rttMs === roundTripMs);
  }
  raw.send(rawOpen(1));
  let limit = (await raw.next(FRAME.ACCEPT)).value;
  let sent = 0;
  const windows: number[] = [];
  const chunk = pattern(32 * 1024);
  for (let round = 0; round < 9; round += 1) {
    while (sent < limit) {
      const payload = chunk.subarray(0, Math.min(chunk.length, limit - sent));
      raw.send(rawData(1, sent, payload));
      sent += payload.length;
      await turns(1);
    }
    await until(() => {
      for (const frame of raw.frames) if (frame.type === FRAME.CREDIT) limit = Math.max(limit, frame.value);
      return destination.near.writableLength === 0;
    });
    await turns(5);
    raw.frames.length = 0;
    raw.send(encodeFrame(FRAME.BLOCKED, 0, 1, sent));
    await turns(5);
    for (const frame of raw.frames.splice(0)) limit = Math.max(limit, frame.value);
    windows.push(limit - sent);
  }
  return windows;
};

describe('window', () => {
  test(
    'doubles when the sender is BLOCKED while everything is drained, to 16 MiB and no further',
    TIMEOUT,
    async (t) => {
      const windows = await grownWindows(t, undefined);
      assert.deepEqual(windows.slice(0, 3), [
        INITIAL_WINDOW_BYTES * 2,
        INITIAL_WINDOW_BYTES * 4,
        INITIAL_WINDOW_BYTES * 8,
      ]);
      assert.equal(Math.max(...windows), MAX_WINDOW_BYTES);
    },
  );

  test('on a link with a short round trip it stops early', TIMEOUT, async (t) => {
    assert.equal(Math.max(...(await grownWindows(t, 1))), MIN_WINDOW_CAP_BYTES);
  });

  test('does not grow for a destination that is behind', TIMEOUT, async (t) => {
    const { raw, sent } = await fullDestination(t);
    raw.send(encodeFrame(FRAME.BLOCKED, 0, 1, sent));
    await turns(10);
    assert.deepEqual(raw.sent(FRAME.CREDIT), []);
  });

  test('stops where the round trip of the link needs no more', () => {
    assert.equal(windowCapFor(0.2), MIN_WINDOW_CAP_BYTES);
    assert.equal(windowCapFor(10), 2 * 1024 * 1024);
    assert.equal(windowCapFor(80), MAX_WINDOW_BYTES);
    assert.equal(windowCapFor(5_000), MAX_WINDOW_BYTES);
  });

  test('growth is bounded over the link and over the process, and given back', () => {
    const parent = new WindowBudget(100);
    const one = new WindowBudget(80, parent);
    const two = new WindowBudget(80, parent);
    assert.equal(one.reserve(81), false);
    assert.equal(one.reserve(80), true);
    assert.equal(two.reserve(21), false);
    assert.equal(two.usedBytes, 0);
    one.release(80);
    assert.equal(two.reserve(80), true);
    assert.equal(parent.usedBytes, 80);
    assert.equal(linkBudget().reserve(LINK_GROWTH_BYTES + 1), false);
  });
});

describe('fairness', () => {
  test('a reader that never reads slows no other', TIMEOUT, async (t) => {
    const { gateway, open } = tunnel(t);
    const stalled = await open();
    const others = [await open(), await open(), await open()];
    for (let i = 0; i < 400; i += 1) stalled.app.write(pattern(PIECE_BYTES));
    await until(() => gateway.stats().creditStalls > 0 && gateway.stats().waiting === 0);
    const received = others.map((one) => new Received(one.target));
    for (const one of others) one.app.end(pattern(3_000_000));
    await until(() => received.every((one) => one.ended));
    for (const one of received) assert.ok(one.content.equals(pattern(3_000_000)));
    assert.equal(stalled.outcome.end, undefined);
    const held = stalled.agentSocket.writableLength;
    assert.ok(held <= MAX_WINDOW_BYTES, `${held} bytes held for the reader that never reads`);
  });

  test('bulk streams share a congested link evenly, one full frame each in turn', TIMEOUT, async (t) => {
    const gate = new Gate();
    const { session, raw } = againstRaw(t, 'gateway', { carry: gate.carry });
    const fars = [];
    for (let i = 0; i < 4; i += 1) {
      const { near, far } = await tcpPair(t);
      openStream(session, near);
      fars.push(far);
    }
    for (let stream = 1; stream <= 4; stream += 1) {
      await pump(gate, () => raw.sent(FRAME.OPEN).length >= stream);
      raw.send(rawAccept(stream, 64 * 1024 * 1024));
    }
    for (const far of fars) for (let i = 0; i < 40; i += 1) far.write(pattern(PIECE_BYTES));
    await until(() => session.stats().waiting === 4);
    await turns(30);
    raw.frames.length = 0;
    let mostOut = 0;
    for (let i = 0; i < 40; i += 1) {
      const before = raw.frames.length;
      await until(() => gate.holding);
      gate.pass();
      await turns(6);
      const bytes = raw.frames
        .slice(before)
        .reduce((sum, frame) => sum + HEADER_BYTES + frame.payload.length, 0);
      mostOut = Math.max(mostOut, bytes);
    }
    const share = [1, 2, 3, 4].map((stream) =>
      raw.sent(FRAME.DATA, stream).reduce((sum, frame) => sum + frame.payload.length, 0),
    );
    const least = Math.min(...share);
    assert.ok(Math.max(...share) - least <= 2 * MAX_FRAME_BYTES, share.join(' '));
    assert.ok(least > 5 * MAX_FRAME_BYTES);
    assert.ok(mostOut <= FLUSH_BYTES, `${mostOut} bytes in one write`);
    assert.ok(raw.sent(FRAME.DATA).some((frame) => frame.payload.length === MAX_FRAME_BYTES - HEADER_BYTES));
  });

  test('PING answers, OPEN, RESET and small data go ahead of bulk that waits', TIMEOUT, async (t) => {
    const gate = new Gate();
    const { session, raw } = againstRaw(t, 'gateway', { carry: gate.carry });
    const bulk = await tcpPair(t);
    const small = await tcpPair(t);
    const doomed = await tcpPair(t);
    doomed.far.resume();
    openStream(session, bulk.near);
    openStream(session, small.near);
    const third = openStream(session, doomed.near);
    await pump(gate, () => raw.sent(FRAME.OPEN).length === 3);
    for (let stream = 1; stream <= 3; stream += 1) raw.send(rawAccept(stream, 64 * 1024 * 1024));
    for (let i = 0; i < 40; i += 1) bulk.far.write(pattern(PIECE_BYTES));
    await until(() => gate.holding && session.stats().queuedBytes >= SEND_QUEUE_BYTES);
    raw.frames.length = 0;
    raw.send(encodeFrame(FRAME.PING, 0, 0, 77));
    small.far.write(pattern(SMALL_QUEUE_BYTES));
    const late = await tcpPair(t);
    openStream(session, late.near);
    third.stream.reset('admin_closed');
    await until(() => session.stats().waiting === 2);
    await turns(10);
    // The write that is on its way was composed before; the next one has everything small in front.
    gate.pass();
    await until(() => gate.holding);
    const before = raw.frames.length;
    gate.pass();
    await until(() => raw.frames.length > before);
    const order = raw.frames.slice(before).map((frame) => `${frame.type}:${frame.stream}`);
    const firstBulk = order.indexOf(`${FRAME.DATA}:1`);
    for (const ahead of [`${FRAME.PONG}:0`, `${FRAME.OPEN}:4`, `${FRAME.RESET}:3`, `${FRAME.DATA}:2`]) {
      assert.ok(order.includes(ahead) && order.indexOf(ahead) < firstBulk, `${ahead} in ${order.join(' ')}`);
    }
  });

  test('small streams cannot starve bulk: half of each write is left to it', TIMEOUT, async (t) => {
    const gate = new Gate();
    const { session, raw } = againstRaw(t, 'gateway', { carry: gate.carry });
    const bulk = await tcpPair(t);
    openStream(session, bulk.near);
    const smalls = [];
    for (let i = 0; i < 40; i += 1) {
      const pair = await tcpPair(t);
      openStream(session, pair.near);
      smalls.push(pair.far);
    }
    await pump(gate, () => raw.sent(FRAME.OPEN).length === 41);
    for (let stream = 1; stream <= 41; stream += 1) raw.send(rawAccept(stream, 64 * 1024 * 1024));
    for (let i = 0; i < 20; i += 1) bulk.far.write(pattern(PIECE_BYTES));
    await until(() => gate.holding && session.stats().queuedBytes >= SEND_QUEUE_BYTES);
    for (const far of smalls) far.write(pattern(SMALL_QUEUE_BYTES));
    await until(() => session.stats().waiting === 41);
    gate.pass();
    await until(() => gate.holding);
    const before = raw.frames.length;
    gate.pass();
    await until(() => raw.frames.length > before);
    const written = raw.frames.slice(before);
    const bytesOf = (bulkOnly: boolean): number =>
      written
        .filter((frame) => (frame.stream === 1) === bulkOnly)
        .reduce((sum, frame) => sum + HEADER_BYTES + frame.payload.length, 0);
    assert.ok(bytesOf(true) >= FLUSH_BYTES / 2 - MAX_FRAME_BYTES / 8, `${bytesOf(true)} bytes of bulk`);
    assert.ok(bytesOf(false) >= FLUSH_BYTES / 4);
  });

  test('a busy source is read for one send queue a loop turn, then it rests', TIMEOUT, async (t) => {
    const { session, raw } = againstRaw(t, 'gateway');
    const { near, far } = await tcpPair(t);
    openStream(session, near);
    await raw.next(FRAME.OPEN);
    raw.send(rawAccept(1, 64 * 1024 * 1024));
    await turns(3);
    let most = 0;
    let seen = near.bytesRead;
    const look = (): void => {
      most = Math.max(most, near.bytesRead - seen);
      seen = near.bytesRead;
      if (!near.destroyed) setImmediate(look);
    };
    look();
    const length = 80 * PIECE_BYTES;
    far.write(pattern(length));
    await until(() => raw.sent(FRAME.DATA).reduce((sum, frame) => sum + frame.payload.length, 0) === length);
    assert.ok(
      most > 0 && most <= SEND_QUEUE_BYTES + READ_BYTES,
      `${most} bytes before anybody else is heard`,
    );
  });

  test(
    'neither RESET nor DATA overtakes the OPEN of its stream, though OPENs fill several writes',
    TIMEOUT,
    async (t) => {
      const gate = new Gate();
      const { session, raw } = againstRaw(t, 'gateway', { carry: gate.carry });
      await until(() => gate.holding);
      const nears = await Promise.all(Array.from({ length: 60 }, async () => (await tcpPair(t)).near));
      const meta = (): OpenMeta => metaOf({ ext: { pad: 'x'.repeat(3_500) } });
      const outcomes = nears.map((near) => openStream(session, near, pattern(100), meta()));
      outcomes[59]?.stream.reset('admin_closed');
      gate.open();
      await until(() => raw.sent(FRAME.DATA).length === 59 && raw.sent(FRAME.RESET).length === 1);
      const opened = new Set<number>();
      for (const { type, stream } of raw.frames) {
        if (type === FRAME.OPEN) opened.add(stream);
        else if (stream > 0) assert.ok(opened.has(stream), `frame type ${type} before OPEN of ${stream}`);
      }
    },
  );

  test('what happens in one loop turn is one write', TIMEOUT, async (t) => {
    let writes = 0;
    const { session, raw } = againstRaw(t, 'gateway', {
      carry: (chunk, deliver, taken) => {
        writes += 1;
        deliver(Buffer.from(chunk));
        setImmediate(taken);
      },
    });
    const nears = await Promise.all(Array.from({ length: 10 }, async () => (await tcpPair(t)).near));
    await until(() => raw.sent(FRAME.PING).length === 1);
    await turns(3);
    writes = 0;
    for (const near of nears) openStream(session, near, pattern(100));
    await until(() => raw.sent(FRAME.DATA).length === 10);
    assert.equal(writes, 1);
  });

  test(
    'CREDIT and RESET are state, not queued messages: one frame however often it changed',
    TIMEOUT,
    async (t) => {
      const gate = new Gate();
      const destination = await tcpPair(t);
      destination.far.resume();
      const { session, raw } = againstRaw(t, 'agent', {
        carry: gate.carry,
        onOpen: (incoming) => incoming.accept(destination.near, { decision_id: 'd' }, () => undefined),
      });
      raw.send(rawOpen(1));
      await pump(gate, () => raw.sent(FRAME.ACCEPT).length === 1);
      raw.send(encodeFrame(FRAME.PING, 0, 0, 1));
      await until(() => gate.holding);
      const step = INITIAL_WINDOW_BYTES / 4;
      for (let i = 0; i < 4; i += 1) {
        for (let at = 0; at < step; at += step / 4) raw.send(rawData(1, i * step + at, pattern(step / 4)));
        await turns(20);
      }
      await until(() => destination.near.writableLength === 0);
      await turns(5);
      raw.frames.length = 0;
      gate.open();
      await until(() => raw.sent(FRAME.CREDIT).length > 0);
      await turns(10);
      const credits = raw.sent(FRAME.CREDIT);
      assert.equal(credits.length, 1);
      assert.equal(credits[0]?.value, 2 * INITIAL_WINDOW_BYTES);
      session.streams()[0]?.reset('admin_closed');
      await until(() => raw.sent(FRAME.RESET).length > 0);
      await turns(5);
      assert.equal(raw.sent(FRAME.RESET).length, 1);
    },
  );
});

/** Lets the gate pass what it holds until the condition is met. */
const pump = async (gate: Gate, condition: () => boolean): Promise<void> => {
  await until(() => {
    gate.pass();
    return condition();
  });
};
