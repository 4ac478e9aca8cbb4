import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import fc from 'fast-check';
import { FLAG_FIN, FRAME, MAX_FRAME_BYTES } from '../../../src/protocol/session/constants.ts';
import { encodeFrame } from '../../../src/protocol/session/frame-header.ts';
import { SessionCore } from '../../../src/protocol/session/session-core.ts';
import { LANE, type Lane, type Waiter, WaitingList } from '../../../src/protocol/session/waiting-list.ts';
import { CLOSE_REASON, systemClock } from '../../../src/runtime/index.ts';
import {
  type Carry,
  helloOf,
  json,
  linkPair,
  NO_BYTES,
  openStream,
  type Outcome,
  pattern,
  RawPeer,
  rawAccept,
  rawCredit,
  rawReset,
  turns,
  until,
} from './support.ts';

class Member implements Waiter {
  lane: Lane = LANE.none;
  deficitBytes = 0;
  previous: this | undefined = undefined;
  next: this | undefined = undefined;
}

test('the list holds a member once, in order, whatever joins and leaves', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          op: fc.constantFrom('add', 'addSmall', 'remove', 'rotate'),
          member: fc.integer({ min: 0, max: 4 }),
        }),
        { maxLength: 60 },
      ),
      (ops) => {
        const list = new WaitingList<Member>();
        const members = Array.from({ length: 5 }, () => new Member());
        const small: Member[] = [];
        const bulk: Member[] = [];
        const drop = (member: Member): void => {
          for (const lane of [small, bulk]) if (lane.includes(member)) lane.splice(lane.indexOf(member), 1);
        };
        for (const { op, member: index } of ops) {
          const member = members[index]!;
          const waits = small.includes(member) || bulk.includes(member);
          if (op === 'add' || op === 'addSmall') {
            list.add(member, op === 'addSmall');
            if (!waits) (op === 'addSmall' ? small : bulk).push(member);
          } else if (op === 'remove') {
            list.remove(member);
            drop(member);
          } else if (list.firstBulk !== undefined) {
            const first = list.firstBulk;
            list.rotate(first);
            drop(first);
            bulk.push(first);
            assert.equal(first.deficitBytes, MAX_FRAME_BYTES);
          }
          assert.deepEqual([...list], [...small, ...bulk]);
          assert.equal(list.size, small.length + bulk.length);
          assert.equal(list.firstSmall, small[0]);
          assert.equal(list.firstBulk, bulk[0]);
        }
      },
    ),
  );
});

/** An end socket that is fed by the test, without a kernel in between. */
class FakeSocket extends Duplex {
  constructor() {
    super({ allowHalfOpen: true });
    this.on('error', () => undefined);
  }

  override _read(): void {
    // Fed by push.
  }

  override _write(_chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    done();
  }

  setNoDelay(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }

  resetAndDestroy(): this {
    return this.destroy();
  }
}

interface ModelStream {
  readonly outcome: Outcome;
  readonly socket: FakeSocket;
  written: number;
  ended: boolean;
  limit: number;
  accepted: boolean;
}

const EVENTS = [
  'open',
  'accept',
  'write',
  'writeMuch',
  'fin',
  'credit',
  'peerReset',
  'ownReset',
  'take',
  'goAway',
  'turn',
] as const;

/**
 * The model of invariant 4. What it knows of a stream it has from outside: what the test wrote and granted, and
 * the frames that left. A stream must wait exactly when it has data and credit, or a FIN with nothing before it.
 */
class Model {
  readonly session: SessionCore;
  readonly raw: RawPeer;
  readonly streams: ModelStream[] = [];
  #taken: (() => void)[] = [];
  #open = false;
  #wentAway = false;

  constructor() {
    // Everything written is seen at once, and taken when the model says so: congestion.
    const carry: Carry = (chunk, deliver, taken) => {
      deliver(Buffer.from(chunk));
      if (this.#open) setImmediate(taken);
      else this.#taken.push(taken);
    };
    // What the peer says is heard before the next check.
    const heard: Carry = (chunk, deliver, taken) => {
      deliver(Buffer.from(chunk));
      taken();
    };
    const { left, right } = linkPair(carry, heard);
    this.session = new SessionCore(
      { duplex: left, ownHello: helloOf('gateway'), peerHello: helloOf('agent'), leftover: NO_BYTES },
      { clock: systemClock },
    );
    this.raw = new RawPeer(right);
  }

  take(): void {
    for (const call of this.#taken.splice(0)) call();
  }

  openLink(): void {
    this.#open = true;
    this.take();
  }

  sentBytes(stream: ModelStream): number {
    const frames = this.raw.sent(FRAME.DATA, stream.outcome.stream.number);
    return frames.reduce((sum, frame) => sum + frame.payload.length, 0);
  }

  #finSent(stream: ModelStream): boolean {
    return this.raw
      .sent(FRAME.DATA, stream.outcome.stream.number)
      .some((frame) => (frame.flags & FLAG_FIN) !== 0);
  }

  apply(event: (typeof EVENTS)[number], pick: number, amount: number): void {
    if (event === 'open') {
      if (!this.session.openable) return;
      const socket = new FakeSocket();
      const outcome = openStream(this.session, socket as unknown as Socket);
      this.streams.push({ outcome, socket, written: 0, ended: false, limit: 16 * 1024, accepted: false });
      return;
    }
    if (event === 'take') {
      this.take();
      return;
    }
    if (event === 'turn') return;
    if (event === 'goAway') {
      // Rare, because it ends what can be tested; served are the lower half.
      if (this.#wentAway || amount > 2_000 || this.raw.sent(FRAME.OPEN).length === 0) return;
      this.#wentAway = true;
      const highest = Math.floor(this.streams.length / 2);
      this.raw.send(
        encodeFrame(FRAME.GOAWAY, 0, 0, highest, json({ code: 'agent_shutdown', deadline_ms: 60_000 })),
      );
      return;
    }
    const live = this.streams.filter(
      (one) => one.outcome.end === undefined && one.outcome.refusal === undefined,
    );
    const stream = live[pick % Math.max(1, live.length)];
    if (stream === undefined) return;
    const { number } = stream.outcome.stream;
    const announced = this.raw.sent(FRAME.OPEN, number).length > 0;
    switch (event) {
      case 'accept':
        if (stream.accepted || !announced) return;
        stream.accepted = true;
        stream.limit = amount;
        this.raw.send(rawAccept(number, amount));
        return;
      case 'write':
      case 'writeMuch': {
        if (stream.ended) return;
        const length = event === 'write' ? amount % 3_000 : 64 * 1024;
        if (length === 0) return;
        stream.socket.push(pattern(length, stream.written));
        stream.written += length;
        return;
      }
      case 'fin':
        if (stream.ended) return;
        stream.ended = true;
        stream.socket.push(null);
        return;
      case 'credit':
        if (!stream.accepted) return;
        stream.limit += amount;
        this.raw.send(rawCredit(number, stream.limit, 0));
        return;
      case 'peerReset':
        if (announced && amount < 10_000) this.raw.send(rawReset(number, 0, CLOSE_REASON.target_reset));
        return;
      case 'ownReset':
        if (amount < 10_000) stream.outcome.stream.reset('admin_closed');
    }
  }

  check(): void {
    const expected = this.session
      .streams()
      .filter((own) => {
        const stream = this.streams.find((one) => one.outcome.stream.number === own.number)!;
        if (own.queuedBytes > 0) return this.sentBytes(stream) < stream.limit;
        return stream.socket.readableEnded && !this.#finSent(stream);
      })
      .map((own) => own.number);
    const waiting = this.session.waiting().map((own) => own.number);
    assert.deepEqual(
      [...waiting].sort((a, b) => a - b),
      expected,
    );
    assert.equal(this.session.stats().waiting, waiting.length);
  }
}

test('after every event, a stream with data, credit and an open link waits exactly once; in the end all is sent', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          event: fc.constantFrom(...EVENTS),
          pick: fc.nat({ max: 20 }),
          amount: fc.integer({ min: 0, max: 100_000 }),
          turns: fc.integer({ min: 0, max: 3 }),
        }),
        { minLength: 10, maxLength: 80 },
      ),
      async (steps) => {
        const model = new Model();
        for (let i = 0; i < 3; i += 1) model.apply('open', 0, 0);
        try {
          for (const step of steps) {
            model.apply(step.event, step.pick, step.amount);
            model.check();
            for (let i = 0; i < step.turns; i += 1) {
              await turns();
              model.check();
            }
          }
          // With an open link and credit enough, nothing may be left behind.
          model.openLink();
          await turns(4);
          for (const stream of model.streams) {
            if (stream.outcome.end !== undefined || stream.outcome.refusal !== undefined) continue;
            if (!stream.accepted) model.raw.send(rawAccept(stream.outcome.stream.number, 64 * 1024 * 1024));
            else model.raw.send(rawCredit(stream.outcome.stream.number, 64 * 1024 * 1024, 0));
            stream.limit = 64 * 1024 * 1024;
          }
          const left = (): ModelStream[] =>
            model.streams.filter(
              (one) =>
                one.outcome.end === undefined &&
                one.outcome.refusal === undefined &&
                model.sentBytes(one) < one.written,
            );
          await until(() => left().length === 0);
          await turns(4);
          model.check();
          assert.deepEqual(model.session.waiting(), []);
        } finally {
          model.session.destroy('internal');
        }
      },
    ),
    { numRuns: 1000 },
  );
});
