import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import {
  EARLY_BYTES,
  FLAG_FIN,
  FRAME,
  INITIAL_WINDOW_BYTES,
  SEND_QUEUE_BYTES,
} from '../../../src/protocol/session/constants.ts';
import { endedByReset } from '../../../src/protocol/session/reset-detection.ts';
import { encodeFrame } from '../../../src/protocol/session/frame-header.ts';
import type { StreamEnd } from '../../../src/protocol/session/types.ts';
import { isAppError, READ_BYTES } from '../../../src/runtime/index.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import {
  againstRaw,
  atOnce,
  Gate,
  metaOf,
  NO_BYTES,
  oneByte,
  openStream,
  pattern,
  Received,
  rawAccept,
  rawCredit,
  rawData,
  rawReset,
  sessionPair,
  tcpPair,
  tunnel,
  turns,
  until,
} from './support.ts';
import { fullDestination } from './full-destination.ts';

const TIMEOUT = { timeout: 20_000 };

for (const [name, carry] of [
  ['a link that takes what it is given', atOnce],
  ['a link that accepts one byte at a time', oneByte],
] as const) {
  describe(name, () => {
    test('bytes go both ways, then FIN, and the stream ends client_fin', TIMEOUT, async (t) => {
      const { gateway, agent, open } = tunnel(t, { gatewayCarry: carry, agentCarry: carry });
      const one = await open();
      assert.equal(one.outcome.accepted, 'd1');
      const up = new Received(one.target);
      const down = new Received(one.app);
      one.app.end(pattern(300_000));
      one.target.write(pattern(200_000, 7));
      await until(() => up.ended && down.bytes === 200_000);
      assert.ok(up.content.equals(pattern(300_000)));
      // Half-close: the target still sends after the client's FIN.
      one.target.end(pattern(1000, 3));
      await until(() => one.outcome.end !== undefined && one.agentEnd() !== undefined);
      assert.ok(down.ended);
      assert.ok(down.content.equals(Buffer.concat([pattern(200_000, 7), pattern(1000, 3)])));
      for (const end of [one.outcome.end, one.agentEnd()]) {
        assert.equal(end?.reason, 'client_fin');
        assert.equal(end.bytesUp, 300_000);
        assert.equal(end.bytesDown, 201_000);
        assert.equal(end.linkEnded, false);
      }
      assert.equal(gateway.streamCount, 0);
      assert.equal(agent.streamCount, 0);
    });

    test(
      'a FIN of the target first: bytes still go up, and the stream ends target_fin',
      TIMEOUT,
      async (t) => {
        const { open } = tunnel(t, { gatewayCarry: carry, agentCarry: carry });
        const one = await open();
        const up = new Received(one.target);
        const down = new Received(one.app);
        one.target.end('bye');
        await until(() => down.ended);
        assert.equal(down.content.toString(), 'bye');
        one.app.end(pattern(100_000));
        await until(() => one.outcome.end !== undefined && one.agentEnd() !== undefined);
        assert.ok(up.content.equals(pattern(100_000)));
        assert.equal(one.outcome.end?.reason, 'target_fin');
        assert.equal(one.agentEnd()?.reason, 'target_fin');
      },
    );

    test('eight streams at once keep their bytes apart', TIMEOUT, async (t) => {
      const { open } = tunnel(t, { gatewayCarry: carry, agentCarry: carry });
      const streams = [];
      for (let i = 0; i < 8; i += 1) streams.push(await open());
      const received = streams.map((one) => new Received(one.target));
      streams.forEach((one, i) => one.app.end(pattern(50_000, i)));
      await until(() => received.every((one) => one.ended));
      received.forEach((one, i) => assert.ok(one.content.equals(pattern(50_000, i))));
    });
  });
}

describe('resets', () => {
  test("an abort of the application reaches the target's socket as a reset", TIMEOUT, async (t) => {
    const { open } = tunnel(t);
    const one = await open();
    const target = new Received(one.target);
    one.app.resetAndDestroy();
    await until(() => target.closed && one.outcome.end !== undefined && one.agentEnd() !== undefined);
    assert.equal(target.error, 'ECONNRESET');
    assert.equal(one.outcome.end?.reason, 'client_reset');
    assert.equal(one.agentEnd()?.reason, 'client_reset');
  });

  test('an abort behind bytes that nobody has read yet is a reset and no end', TIMEOUT, async (t) => {
    const gate = new Gate();
    gate.open();
    const { open } = tunnel(t, { gatewayCarry: gate.carry });
    const one = await open();
    const target = new Received(one.target);
    gate.isOpen = false;
    // More than a session reads ahead, and at last a read that is not full: that is when libuv speaks of an end.
    const write = (bytes: number) => new Promise((resolve) => one.app.write(pattern(bytes), resolve));
    const length = INITIAL_WINDOW_BYTES + SEND_QUEUE_BYTES + 100_000;
    await write(length);
    await until(() => one.gatewaySocket.isPaused() && gate.holding);
    const unread = length - one.gatewaySocket.bytesRead;
    await write(READ_BYTES - (unread % READ_BYTES) + 1_000);
    one.app.resetAndDestroy();
    await once(one.app, 'close');
    gate.open();
    // This target is a Node socket too: bytes before a reset may make it see an end, and only the kernel knows better.
    await until(
      () => (target.closed || target.ended) && one.outcome.end !== undefined && one.agentEnd() !== undefined,
    );
    assert.ok(target.error === 'ECONNRESET' || endedByReset(one.target));
    assert.equal(one.outcome.end?.reason, 'client_reset');
    assert.equal(one.agentEnd()?.reason, 'client_reset');
  });

  test("an abort of the target reaches the application's socket as a reset", TIMEOUT, async (t) => {
    const { open } = tunnel(t);
    const one = await open();
    const app = new Received(one.app);
    one.target.resetAndDestroy();
    await until(() => app.closed && one.outcome.end !== undefined && one.agentEnd() !== undefined);
    assert.equal(app.error, 'ECONNRESET');
    assert.equal(one.outcome.end?.reason, 'target_reset');
    assert.equal(one.agentEnd()?.reason, 'target_reset');
  });

  test('reset with a reason resets both sockets and carries the reason', TIMEOUT, async (t) => {
    const { open } = tunnel(t);
    const one = await open();
    const app = new Received(one.app);
    const target = new Received(one.target);
    one.outcome.stream.reset('max_seconds');
    one.outcome.stream.reset('max_bytes');
    await until(() => app.closed && target.closed && one.agentEnd() !== undefined);
    assert.deepEqual([app.error, target.error], ['ECONNRESET', 'ECONNRESET']);
    assert.equal(one.outcome.end?.reason, 'max_seconds');
    assert.equal(one.agentEnd()?.reason, 'max_seconds');
  });

  test('a reason number that this build does not know is internal, the number kept', TIMEOUT, async (t) => {
    const { session, raw } = againstRaw(t, 'gateway');
    const { near, far } = await tcpPair(t);
    far.resume();
    const outcome = openStream(session, near);
    await raw.next(FRAME.OPEN);
    raw.send(rawReset(1, 0, 999));
    await until(() => outcome.end !== undefined);
    assert.equal(outcome.end?.reason, 'internal');
    assert.equal(outcome.end.reasonNumber, 999);
  });

  test(
    'FIN waits for the last byte to leave, so that a reset behind it can still be one',
    TIMEOUT,
    async (t) => {
      const { destination, raw, sent } = await fullDestination(t);
      raw.send(rawData(1, sent, NO_BYTES, FLAG_FIN));
      await turns(5);
      // A socket whose shutdown is under way cannot be reset any more (libuv answers EINVAL).
      assert.ok(destination.near.writableLength > 0);
      assert.equal(destination.near.writableEnded, false);
      const closed = once(destination.near, 'close');
      raw.send(rawReset(1, sent, 20));
      await closed;
      // Node 24 reports the write that the reset cancelled; a reset that libuv refuses would be EINVAL.
      const { errored } = destination.near as { errored: NodeJS.ErrnoException | null };
      assert.ok(errored === null || errored.code === 'ECANCELED', String(errored));
    },
  );

  test('a death of the link resets every socket', TIMEOUT, async (t) => {
    const { gateway, open, left } = tunnel(t);
    const one = await open();
    const app = new Received(one.app);
    const target = new Received(one.target);
    const ends: string[] = [];
    gateway.onEnd((end) => ends.push(end.reason));
    left.destroy();
    await until(() => app.closed && target.closed && one.agentEnd() !== undefined);
    assert.deepEqual([app.error, target.error], ['ECONNRESET', 'ECONNRESET']);
    assert.deepEqual(ends, ['link_lost']);
    assert.equal(one.outcome.end?.reason, 'link_lost');
    assert.equal(one.outcome.end.linkEnded, true);
    assert.equal(gateway.openable, false);
    gateway.onEnd((end) => ends.push(end.reason));
    assert.deepEqual(ends, ['link_lost', 'link_lost']);
  });

  test('destroy with a reason ends every stream with it', TIMEOUT, async (t) => {
    const { agent, open } = tunnel(t);
    const one = await open();
    const target = new Received(one.target);
    agent.destroy('key_revoked');
    await until(() => target.closed);
    assert.equal(target.error, 'ECONNRESET');
    assert.equal(one.agentEnd()?.reason, 'key_revoked');
  });
});

describe('opening', () => {
  test('REFUSE hands the socket back with everything that was read, and it works on', TIMEOUT, async (t) => {
    const { gateway } = sessionPair(t, {
      onOpen: (incoming) => {
        void turns(3).then(() => incoming.refuse('overloaded', { movable: true, retry_after_ms: 50 }));
      },
    });
    const { near, far } = await tcpPair(t);
    far.write(pattern(30_000, 5));
    const outcome = openStream(gateway, near, pattern(5));
    await until(() => outcome.refusal !== undefined);
    const { refusal } = outcome;
    assert.equal(refusal?.code, 'overloaded');
    assert.equal(refusal.codeNumber, 46);
    assert.equal(refusal.movable, true);
    assert.equal(refusal.retry_after_ms, 50);
    assert.equal(gateway.streamCount, 0);
    assert.equal(outcome.end, undefined);
    // Retried elsewhere: nothing is missing and nothing comes twice.
    const second = tunnelOnto(t);
    const { received, gateway: other } = await second;
    far.end();
    openStream(other, near, refusal.early);
    await until(() => received().ended);
    assert.ok(received().content.equals(pattern(30_005)));
    assert.equal(near.destroyed, false);
  });

  test(
    'an opener that keeps its socket gets it back when RESET or the end of the link comes before an answer',
    TIMEOUT,
    async (t) => {
      for (const how of ['link', 'own reset', 'accepted'] as const) {
        const { gateway } = sessionPair(t, {
          onOpen: (incoming) => {
            if (how !== 'accepted') return;
            void tcpPair(t).then(({ near }) => incoming.accept(near, { decision_id: 'd' }, () => undefined));
          },
        });
        const { near, far } = await tcpPair(t);
        far.write(pattern(1_000));
        let end: StreamEnd | undefined;
        let isAccepted = false;
        const stream = gateway.open(metaOf(), near, NO_BYTES, {
          keepsSocket: true,
          onAccept: () => (isAccepted = true),
          onRefuse: () => assert.fail('no refusal'),
          onEnd: (given) => (end = given),
        });
        if (how === 'accepted') await until(() => isAccepted);
        else await turns(5);
        if (how === 'link') gateway.destroy('key_revoked');
        else stream.reset('open_timeout');
        assert.equal(end?.reason, how === 'link' ? 'key_revoked' : 'open_timeout');
        assert.equal(near.destroyed, how === 'accepted', how);
        if (how === 'accepted') continue;
        const heard = once(far, 'data');
        near.end('a last word');
        assert.equal(String((await heard)[0]), 'a last word');
      }
    },
  );

  test(
    'recall hands the socket back before an answer, and the agent gives the open up',
    TIMEOUT,
    async (t) => {
      let aborted: string | undefined;
      const { gateway } = sessionPair(t, {
        onOpen: (incoming) => incoming.onAbort((reason) => (aborted = reason)),
      });
      const { near, far } = await tcpPair(t);
      far.write(pattern(20_000, 5));
      const outcome = openStream(gateway, near, pattern(5));
      await turns(5);
      const early = gateway.recall(outcome.stream, 'link_lost');
      assert.ok(early);
      assert.equal(gateway.streamCount, 0);
      await until(() => aborted !== undefined);
      assert.equal(aborted, 'link_lost');
      assert.equal(gateway.recall(outcome.stream, 'link_lost'), undefined, 'it is taken back once');
      const second = tunnelOnto(t);
      const { received, gateway: other } = await second;
      far.end();
      const again = openStream(other, near, early);
      await until(() => received().ended);
      assert.ok(received().content.equals(pattern(20_005)));
      assert.equal(other.recall(again.stream, 'link_lost'), undefined, 'an answer came');
      assert.deepEqual([outcome.refusal, outcome.end], [undefined, undefined]);
    },
  );

  test('a refused socket carries no listener of the session', TIMEOUT, async (t) => {
    const { gateway } = sessionPair(t, {
      onOpen: (incoming) => incoming.refuse('policy_denied', { movable: false, decision_id: 'd9' }),
    });
    const { near } = await tcpPair(t);
    const events = ['data', 'drain', 'error'] as const;
    const before = events.map((event) => near.listenerCount(event));
    const outcome = openStream(gateway, near);
    await until(() => outcome.refusal !== undefined);
    assert.deepEqual(
      events.map((event) => near.listenerCount(event)),
      before,
    );
    assert.equal(near.isPaused(), true);
    assert.equal(outcome.refusal?.decision_id, 'd9');
    assert.equal(outcome.refusal.movable, false);
  });

  test('early data is held at the agent, at most 16 KiB, and goes first after ACCEPT', TIMEOUT, async (t) => {
    const gate = new Gate();
    gate.isOpen = true;
    let accept: (() => void) | undefined;
    const destination = await tcpPair(t);
    const { gateway, agent } = sessionPair(t, {
      onOpen: (incoming) => {
        accept = () => incoming.accept(destination.near, { decision_id: 'd' }, () => undefined);
      },
    });
    const { near, far } = await tcpPair(t);
    const received = new Received(destination.far);
    far.end(pattern(400_000));
    openStream(gateway, near);
    let most = 0;
    await until(() => {
      most = Math.max(most, agent.stats().earlyBytes);
      return agent.stats().earlyBytes === EARLY_BYTES;
    });
    await turns(20);
    assert.equal(agent.stats().earlyBytes, EARLY_BYTES);
    assert.equal(most, EARLY_BYTES);
    assert.equal(received.bytes, 0);
    accept?.();
    await until(() => received.ended);
    assert.ok(received.content.equals(pattern(400_000)));
  });

  test('a refusal discards the early data', TIMEOUT, async (t) => {
    let refuse: (() => void) | undefined;
    const { gateway, agent } = sessionPair(t, {
      onOpen: (incoming) => {
        refuse = () => incoming.refuse('policy_denied', { movable: false });
      },
    });
    const { near } = await tcpPair(t);
    openStream(gateway, near, pattern(1000));
    await until(() => agent.stats().earlyBytes === 1000);
    refuse?.();
    assert.equal(agent.stats().earlyBytes, 0);
    assert.equal(agent.streamCount, 0);
  });

  test(
    'an opener that goes away aborts the pending open; a late accept resets its socket',
    TIMEOUT,
    async (t) => {
      const destination = await tcpPair(t);
      const aborts: string[] = [];
      let incomingNumber: number | undefined;
      let late: (() => void) | undefined;
      const ends: string[] = [];
      const { gateway, agent } = sessionPair(t, {
        onOpen: (incoming) => {
          incomingNumber = incoming.number;
          incoming.onAbort((reason) => aborts.push(reason));
          late = () =>
            incoming.accept(destination.near, { decision_id: 'd' }, (end) => ends.push(end.reason));
        },
      });
      const target = new Received(destination.far);
      const { near, far } = await tcpPair(t);
      const outcome = openStream(gateway, near);
      await until(() => incomingNumber !== undefined);
      far.resetAndDestroy();
      await until(() => aborts.length > 0);
      assert.deepEqual(aborts, ['client_reset']);
      assert.equal(outcome.end?.reason, 'client_reset');
      assert.equal(agent.streamCount, 0);
      late?.();
      await until(() => target.closed && ends.length > 0);
      assert.equal(target.error, 'ECONNRESET');
      assert.deepEqual(ends, ['client_reset']);
    },
  );

  test('a session without an answerer refuses', TIMEOUT, async (t) => {
    const { gateway } = sessionPair(t);
    const { near } = await tcpPair(t);
    const outcome = openStream(gateway, near);
    await until(() => outcome.refusal !== undefined);
    assert.equal(outcome.refusal?.code, 'internal');
  });

  test(
    "the agent's limit of streams: refused overloaded and movable; the gateway does not ask for more",
    TIMEOUT,
    async (t) => {
      const { gateway } = sessionPair(t, { onOpen: () => undefined, agentLimits: { streams: 2 } });
      for (let i = 0; i < 2; i += 1) openStream(gateway, (await tcpPair(t)).near);
      assert.equal(gateway.openable, false);
      const { near } = await tcpPair(t);
      assert.throws(
        () => openStream(gateway, near),
        (error) => isAppError(error, 'ERR_SESSION_NOT_OPENABLE'),
      );
    },
  );

  test('a second OPEN.id among the recent ones is refused', TIMEOUT, async (t) => {
    const { gateway } = sessionPair(t, {
      onOpen: (incoming) => incoming.refuse('overloaded', { movable: true }),
    });
    const meta = metaOf();
    const first = openStream(gateway, (await tcpPair(t)).near, NO_BYTES, meta);
    const second = openStream(gateway, (await tcpPair(t)).near, NO_BYTES, meta);
    await until(() => first.refusal !== undefined && second.refusal !== undefined);
    assert.equal(first.refusal?.code, 'overloaded');
    assert.equal(second.refusal?.code, 'protocol_error');
  });

  test('poison text in OPEN arrives cleaned', TIMEOUT, async (t) => {
    let label: string | undefined;
    const { gateway } = sessionPair(t, {
      onOpen: (incoming) => {
        label = incoming.meta.claimed.label;
        incoming.refuse('policy_denied', { movable: false });
      },
    });
    openStream(gateway, (await tcpPair(t)).near, NO_BYTES, metaOf({ claimed: { label: 'a\u0000\ud800b' } }));
    await until(() => label !== undefined);
    assert.equal(label, 'a\ufffd\ufffdb');
  });
});

/** A tunnel whose target is collected, for a stream that is opened by the caller. */
const tunnelOnto = async (t: Parameters<typeof tunnel>[0]) => {
  const destination = await tcpPair(t);
  const received = new Received(destination.far);
  const { gateway } = sessionPair(t, {
    onOpen: (incoming) => incoming.accept(destination.near, { decision_id: 'd2' }, () => undefined),
  });
  return { gateway, received: () => received };
};

describe('FIN', () => {
  test('is acknowledged: the stream lives until the far socket has taken it', TIMEOUT, async (t) => {
    const { session, raw } = againstRaw(t, 'gateway');
    const { near, far } = await tcpPair(t);
    far.resume();
    const outcome = openStream(session, near);
    await raw.next(FRAME.OPEN);
    raw.send(rawAccept(1));
    far.end('last');
    await until(() => raw.sent(FRAME.DATA).some((frame) => (frame.flags & FLAG_FIN) !== 0));
    raw.send(rawData(1, 0, NO_BYTES, FLAG_FIN));
    const credit = await raw.next(FRAME.CREDIT);
    assert.equal(credit.flags & FLAG_FIN, FLAG_FIN);
    await turns(5);
    assert.equal(session.streamCount, 1);
    raw.send(rawCredit(1, 256 * 1024, 4, FLAG_FIN));
    await until(() => outcome.end !== undefined);
    assert.equal(outcome.end?.reason, 'client_fin');
  });

  test('the FIN of a client that only asked travels before ACCEPT', TIMEOUT, async (t) => {
    const destination = await tcpPair(t);
    const received = new Received(destination.far);
    let accept: (() => void) | undefined;
    const { gateway } = sessionPair(t, {
      onOpen: (incoming) => {
        accept = () => incoming.accept(destination.near, { decision_id: 'd' }, () => undefined);
      },
    });
    const { near, far } = await tcpPair(t);
    far.end('one question');
    openStream(gateway, near);
    await until(() => accept !== undefined && gateway.stats().queuedBytes === 0);
    await turns(5);
    accept?.();
    await until(() => received.ended);
    assert.equal(received.content.toString(), 'one question');
  });

  test(
    'half-open streams that nobody acknowledges end idle_timeout, but not while bytes move',
    TIMEOUT,
    async (t) => {
      const clock = new ManualClock();
      const { session, raw } = againstRaw(t, 'gateway', { clock });
      const { near, far } = await tcpPair(t);
      far.resume();
      const outcome = openStream(session, near);
      await raw.next(FRAME.OPEN);
      raw.send(rawAccept(1));
      far.end(pattern(1000));
      await until(() => raw.sent(FRAME.DATA).some((frame) => (frame.flags & FLAG_FIN) !== 0));
      raw.send(rawData(1, 0, NO_BYTES, FLAG_FIN));
      await raw.next(FRAME.CREDIT);
      // Progress every 30 s for three minutes, and PINGs answered.
      for (let i = 1; i <= 36; i += 1) {
        clock.advance(5_000);
        await turns(3);
        for (const ping of raw.frames.splice(0).filter((frame) => frame.type === FRAME.PING)) {
          raw.send(encodeFrame(FRAME.PONG, 0, 0, ping.value));
        }
        if (i % 6 === 0) raw.send(rawCredit(1, 256 * 1024, i));
        await turns(3);
      }
      assert.equal(session.streamCount, 1);
      for (let i = 0; i < 32; i += 1) {
        clock.advance(5_000);
        await turns(3);
        for (const ping of raw.frames.splice(0).filter((frame) => frame.type === FRAME.PING)) {
          raw.send(encodeFrame(FRAME.PONG, 0, 0, ping.value));
        }
        await turns(3);
      }
      assert.equal(outcome.end?.reason, 'idle_timeout');
    },
  );
});

describe('GOAWAY', () => {
  test('names the highest stream that is served; a higher one is handed back', TIMEOUT, async (t) => {
    const { gateway, agent, open } = tunnel(t);
    const one = await open();
    let heard: number | undefined;
    gateway.onGoAway((goAway) => {
      heard = goAway.highest;
      assert.equal(goAway.code, 'agent_shutdown');
      assert.equal(goAway.deadlineMs, 30_000);
    });
    agent.goAway('agent_shutdown', 30_000);
    const { near } = await tcpPair(t);
    const outcome = openStream(gateway, near, Buffer.from('early'));
    await until(() => outcome.refusal !== undefined);
    assert.equal(heard, 1);
    assert.equal(outcome.refusal?.code, 'agent_shutdown');
    assert.equal(outcome.refusal.movable, true);
    assert.equal(outcome.refusal.early.toString(), 'early');
    assert.equal(gateway.openable, false);
    // The stream that was there goes on, and the link ends with it.
    const up = new Received(one.target);
    one.app.end('still here');
    await until(() => up.ended);
    assert.equal(up.content.toString(), 'still here');
    const ended = new Promise<string>((resolve) => gateway.onEnd((end) => resolve(end.reason)));
    one.app.resume();
    one.target.end();
    assert.equal(await ended, 'agent_shutdown');
    await until(() => one.outcome.end !== undefined);
    assert.equal(one.outcome.end?.reason, 'client_fin');
  });

  test('cuts what is left at the deadline', TIMEOUT, async (t) => {
    const clock = new ManualClock();
    const { agent, open } = tunnel(t, { clock });
    const one = await open();
    const target = new Received(one.target);
    agent.goAway('agent_shutdown', 3_000);
    await turns(5);
    assert.equal(one.agentEnd(), undefined);
    clock.advance(3_000);
    await until(() => target.closed && one.outcome.end !== undefined);
    assert.equal(target.error, 'ECONNRESET');
    assert.equal(one.agentEnd()?.reason, 'agent_shutdown');
    assert.equal(one.outcome.end?.reason, 'agent_shutdown');
  });

  test('of an idle gateway ends the link at once', TIMEOUT, async (t) => {
    const { gateway, agent, right } = sessionPair(t);
    const ended = new Promise<string>((resolve) => agent.onEnd((end) => resolve(end.reason)));
    await turns(3);
    gateway.goAway('gateway_shutdown', 1_000);
    assert.equal(await ended, 'gateway_shutdown');
    if (!right.destroyed) await once(right, 'close');
  });
});
