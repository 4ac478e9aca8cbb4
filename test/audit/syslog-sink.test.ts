import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';
import { test } from 'node:test';
import { createServer, type TLSSocket } from 'node:tls';
import type { SinkEvent } from '../../src/audit/sink/backlog.ts';
import type { Feed, Verdict } from '../../src/audit/sink/feed.ts';
import { syslogSinkSchema } from '../../src/audit/sink/sink-settings.ts';
import { SyslogSink } from '../../src/audit/sink/syslog-sink.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { tlsFixture } from './syslog-receiver.ts';

const CHAIN = '019ab000-0000-7000-8000-000000000001';
/** So long a receiver may take to answer the end of a connection. */
const CLOSE_MS = 30_000;
/** Passes the moment before an end in a step or two, and the time for a handshake in very many. */
const SETTLE_STEP_MS = 40;

const eventOf = (seq: number): SinkEvent => ({
  chain: CHAIN,
  seq,
  canonical: Buffer.from(`{"n":${seq}}`),
  segment: 1,
  to: 0,
});

/** Gives these events once, and keeps what was confirmed. */
const feedOf = (
  ...events: SinkEvent[]
): Feed & { confirmed: [number, Verdict | undefined][]; taken: number } => {
  const confirmed: [number, Verdict | undefined][] = [];
  return {
    confirmed,
    taken: 0,
    take() {
      this.taken += 1;
      return events.splice(0);
    },
    arrival: () => new Promise(() => undefined),
    confirm: (last, verdict) => void confirmed.push([last.seq, verdict]),
  };
};

interface Receiver {
  readonly sink: SyslogSink;
  readonly clock: ManualClock;
  /** Connections whose sender has ended them. */
  readonly ended: TLSSocket[];
  readonly texts: string[];
}

/** A receiver that reads everything and answers the end of a connection only when told. */
const startReceiver = async (t: Closer, answers: boolean): Promise<Receiver> => {
  const directory = temporaryDirectory(t);
  const tls = await tlsFixture(directory);
  const { certFile, keyFile } = await tls.certificate('server', ['localhost']);
  const ended: TLSSocket[] = [];
  const texts: string[] = [];
  const options = { cert: readFileSync(certFile), key: readFileSync(keyFile), allowHalfOpen: !answers };
  const sockets = new Set<TLSSocket>();
  const server = createServer(options, (socket) => {
    sockets.add(socket);
    let text = '';
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
    });
    socket.on('end', () => {
      texts.push(text);
      ended.push(socket);
      if (answers) socket.end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const { port } = server.address() as { port: number };
  const settings = syslogSinkSchema.parse({ address: `localhost:${port}`, ca_file: tls.caFile });
  const clock = new ManualClock();
  return { sink: new SyslogSink(settings, 'host', clock), clock, ended, texts };
};

/** Lets the connection's time pass once everything is written. */
const passConnectionTime = async (
  { clock, ended }: Receiver,
  feed: { taken: number },
  already: number,
): Promise<void> => {
  await eventually('the events are taken', () => (feed.taken > 0 ? true : undefined));
  await eventually('the connection is ended', () => {
    clock.advance(1_000);
    return ended.length > already ? true : undefined;
  });
};

test('what a connection carried is confirmed when the receiver answers its end', async (t) => {
  const receiver = await startReceiver(t, true);
  const feed = feedOf(eventOf(1), eventOf(2));
  const running = receiver.sink.run(
    { ...feed, arrival: () => Promise.resolve() },
    new AbortController().signal,
  );
  await eventually('the connection is ended', () => {
    if (receiver.ended.length === 0) receiver.clock.advance(SETTLE_STEP_MS);
    return receiver.ended.length > 0 ? true : undefined;
  });
  await running;
  assert.deepEqual(feed.confirmed, [[2, { isUnconfirmed: false }]]);
  assert.match(
    receiver.texts[0] ?? '',
    /^\d+ <110>1 .* seq="1"\] \{"n":1\}\d+ <110>1 .* seq="2"\] \{"n":2\}$/,
  );
});

test('a receiver that never answers an end gets the first events twice, and is then believed', async (t) => {
  const receiver = await startReceiver(t, false);
  const { sink, clock, ended } = receiver;
  const never = new AbortController().signal;
  const round = async (feed: ReturnType<typeof feedOf>): Promise<unknown> => {
    const already = ended.length;
    const done = sink.run({ ...feed, arrival: () => Promise.resolve() }, never).then(
      () => undefined,
      (error: unknown) => error,
    );
    await eventually('the connection is ended', () => {
      if (ended.length === already) clock.advance(SETTLE_STEP_MS);
      return ended.length > already ? true : undefined;
    });
    assert.deepEqual(feed.confirmed, [], 'nothing is confirmed while the end is unanswered');
    clock.advance(CLOSE_MS);
    return done;
  };
  const first = feedOf(eventOf(1));
  assert.match(String(await round(first)), /does not answer the end/);
  assert.deepEqual(first.confirmed, []);
  const second = feedOf(eventOf(1));
  assert.equal(await round(second), undefined);
  assert.deepEqual(second.confirmed, [[1, { isUnconfirmed: true }]]);
  const third = feedOf(eventOf(2));
  assert.equal(await round(third), undefined);
  assert.deepEqual(third.confirmed, [[2, { isUnconfirmed: true }]]);
});

test('a connection lives for its time and takes what comes meanwhile', async (t) => {
  const receiver = await startReceiver(t, true);
  const feed = feedOf(eventOf(1));
  let arrive: () => void = () => undefined;
  let more = [eventOf(2)];
  let first = true;
  const slow: Feed = {
    take: (bytes) => {
      if (first) {
        first = false;
        return feed.take(bytes);
      }
      return more.splice(0);
    },
    arrival: () =>
      new Promise((resolve) => {
        arrive = resolve;
        receiver.clock.after(30_000, resolve);
      }),
    confirm: (last, verdict) => feed.confirm(last, verdict),
  };
  const running = receiver.sink.run(slow, new AbortController().signal);
  await eventually('it waits', () => (receiver.clock.pendingCount > 0 && feed.taken > 0 ? true : undefined));
  await eventually('it waits for more', () => {
    arrive();
    return more.length === 0 ? true : undefined;
  });
  more = [];
  assert.equal(receiver.ended.length, 0, 'still the same connection');
  await passConnectionTime(receiver, feed, 0);
  await running;
  assert.deepEqual(feed.confirmed, [[2, { isUnconfirmed: false }]]);
  assert.equal(receiver.texts.length, 1);
});
