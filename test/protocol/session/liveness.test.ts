import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FRAME } from '../../../src/protocol/session/constants.ts';
import { encodeFrame } from '../../../src/protocol/session/frame-header.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import {
  againstRaw,
  delayed,
  Gate,
  openStream,
  pattern,
  type RawPeer,
  Received,
  rawAccept,
  rawCredit,
  sessionPair,
  tcpPair,
  turns,
  until,
} from './support.ts';

const TIMEOUT = { timeout: 30_000 };

/** Moves the clock in steps of a second, with the loop turns that the sessions need in between. */
const pass = async (clock: ManualClock, seconds: number): Promise<void> => {
  for (let i = 0; i < seconds; i += 1) {
    clock.advance(1_000);
    await turns(4);
  }
};

const endOf = (t: Parameters<typeof againstRaw>[0], carry?: Gate) => {
  const clock = new ManualClock();
  const { session, raw } = againstRaw(t, 'gateway', {
    clock,
    ...(carry === undefined ? {} : { carry: carry.carry }),
  });
  const ends: string[] = [];
  session.onEnd((end) => ends.push(`${end.reason}: ${end.detail ?? ''}`));
  return { clock, session, raw, ends };
};

const answerPings = (raw: RawPeer): void => {
  for (const ping of raw.sent(FRAME.PING)) raw.send(encodeFrame(FRAME.PONG, 0, 0, ping.value));
  raw.frames.splice(0, raw.frames.length, ...raw.frames.filter((frame) => frame.type !== FRAME.PING));
};

test('a PING goes out every 10 s, and one at the start for the round trip', TIMEOUT, async (t) => {
  const { clock, session, raw, ends } = endOf(t);
  await until(() => raw.sent(FRAME.PING).length === 1);
  clock.advance(40);
  answerPings(raw);
  await until(() => session.stats().rttMs !== undefined);
  assert.equal(session.stats().rttMs, 40);
  let pings = 0;
  for (let i = 0; i < 60; i += 1) {
    await pass(clock, 1);
    pings += raw.sent(FRAME.PING).length;
    answerPings(raw);
  }
  assert.equal(pings, 6);
  assert.deepEqual(ends, []);
});

test(
  'PINGs out of turn are asked for as often as one likes and crowd out none in turn',
  TIMEOUT,
  async (t) => {
    const { clock, session, raw, ends } = endOf(t);
    await until(() => raw.sent(FRAME.PING).length === 1);
    const [first] = raw.sent(FRAME.PING);
    assert.ok(first);
    for (let asked = 0; asked < 100; asked += 1) session.ping();
    await until(() => raw.sent(FRAME.PING).length > 1);
    await pass(clock, 20);
    session.ping();
    await turns(4);
    assert.equal(raw.sent(FRAME.PING).length, 8 + 2);
    raw.send(encodeFrame(FRAME.PONG, 0, 0, first.value));
    await until(() => session.stats().rttMs !== undefined);
    assert.deepEqual(ends, []);
  },
);

test('a peer that says nothing is dead when a PING is more than 30 s old', TIMEOUT, async (t) => {
  const { clock, ends } = endOf(t);
  await turns(3);
  await pass(clock, 40);
  assert.deepEqual(ends, []);
  await pass(clock, 5);
  assert.deepEqual(ends, ['link_lost: no proof of a round trip for 35000 ms']);
});

test('bytes that prove nothing keep a peer alive for 120 s and no longer', TIMEOUT, async (t) => {
  const { clock, raw, ends } = endOf(t);
  await turns(3);
  for (let i = 0; i < 13; i += 1) {
    raw.send(encodeFrame(FRAME.PING, 0, 0, i));
    await pass(clock, 10);
  }
  assert.deepEqual(ends, []);
  raw.send(encodeFrame(FRAME.PING, 0, 0, 99));
  await pass(clock, 10);
  assert.equal(ends.length, 1);
});

test('bytes that arrive do not help when the own send queue does not shrink', TIMEOUT, async (t) => {
  const gate = new Gate();
  const { clock, raw, ends } = endOf(t, gate);
  await until(() => gate.holding);
  for (let i = 0; i < 5 && ends.length === 0; i += 1) {
    raw.send(encodeFrame(FRAME.PING, 0, 0, i));
    await pass(clock, 10);
  }
  assert.equal(ends.length, 1);
});

test(
  'a CREDIT whose consumed offset advanced is proof; one that says the same again is not',
  TIMEOUT,
  async (t) => {
    for (const advances of [true, false]) {
      const { clock, session, raw, ends } = endOf(t);
      const { near, far } = await tcpPair(t);
      openStream(session, near);
      await raw.next(FRAME.OPEN);
      raw.send(rawAccept(1));
      far.write(pattern(100));
      await raw.next(FRAME.DATA);
      for (let i = 1; i <= 15 && ends.length === 0; i += 1) {
        raw.send(rawCredit(1, 256 * 1024, advances ? i : 0));
        await pass(clock, 10);
      }
      assert.equal(ends.length, advances ? 0 : 1);
    }
  },
);

test('a link with a delay of 40 s each way neither stalls nor dies', TIMEOUT, async (t) => {
  const clock = new ManualClock();
  const destination = await tcpPair(t);
  const { gateway, agent } = sessionPair(t, {
    clock,
    gatewayCarry: delayed(clock, 40_000),
    agentCarry: delayed(clock, 40_000),
    onOpen: (incoming) => incoming.accept(destination.near, { decision_id: 'd' }, () => undefined),
  });
  const ends: string[] = [];
  gateway.onEnd((end) => ends.push(end.reason));
  agent.onEnd((end) => ends.push(end.reason));
  const { near, far } = await tcpPair(t);
  const outcome = openStream(gateway, near);
  const up = new Received(destination.far);
  const down = new Received(far);
  const length = 4 * 1024 * 1024;
  far.end(pattern(length));
  destination.far.end(pattern(length, 9));
  for (let i = 0; i < 3600 && !(up.ended && down.ended); i += 1) await pass(clock, 1);
  assert.ok(up.content.equals(pattern(length)));
  assert.ok(down.content.equals(pattern(length, 9)));
  for (let i = 0; i < 200 && outcome.end === undefined; i += 1) await pass(clock, 1);
  assert.match(outcome.end?.reason ?? '', /_fin$/);
  await pass(clock, 600);
  assert.deepEqual(ends, []);
  assert.equal(gateway.stats().rttMs, 80_000);
});
