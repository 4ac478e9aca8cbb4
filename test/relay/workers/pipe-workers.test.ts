import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { pino } from 'pino';
import { BytePipe } from '../../../src/relay/byte-pipe.ts';
import type { LinkPipe, PipeEnd } from '../../../src/relay/link-pipe.ts';
import { WORKER_CUT_MS, WORKER_SILENT_MS } from '../../../src/relay/workers/pipe-worker-process.ts';
import { PipeWorkers } from '../../../src/relay/workers/pipe-workers.ts';
import type { FromWorker, ToWorker } from '../../../src/relay/workers/messages.ts';
import { type Clock, silentLogger, startProcess, systemClock } from '../../../src/runtime/index.ts';
import { eventually } from '../../support/eventually.ts';

const opened: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

/** The system's time, of which a test may add more. */
class HurriedClock implements Clock {
  #addedMs = 0;
  readonly #pending = new Set<{ readonly atMs: number; readonly call: () => void }>();
  nowMs = (): number => systemClock.nowMs() + this.#addedMs;
  monotonicMs = (): number => systemClock.monotonicMs() + this.#addedMs;
  every = (periodMs: number, call: () => void) => systemClock.every(periodMs, call);
  after(delayMs: number, call: () => void) {
    const entry = { atMs: this.monotonicMs() + delayMs, call };
    this.#pending.add(entry);
    const timer = systemClock.after(delayMs, () => this.#run(entry)).unref();
    return {
      cancel: () => {
        this.#pending.delete(entry);
        timer.cancel();
      },
      unref() {
        return this;
      },
    };
  }
  hurry(ms: number): void {
    this.#addedMs += ms;
    for (const entry of [...this.#pending]) if (entry.atMs <= this.monotonicMs()) this.#run(entry);
  }
  #run(entry: { readonly atMs: number; readonly call: () => void }): void {
    if (this.#pending.delete(entry)) entry.call();
  }
}

const startWorkers = async (count: number, clock: Clock = systemClock): Promise<PipeWorkers> => {
  const workers = new PipeWorkers({ count, clock, logger: silentLogger });
  opened.push(() => workers.close());
  await workers.start();
  assert.deepEqual(
    workers.status().map(({ state }) => state),
    Array.from({ length: count }, () => 'up'),
  );
  return workers;
};

interface Joined {
  readonly gateway: Socket;
  readonly agent: Socket;
  readonly pipe: LinkPipe;
  readonly end: Promise<PipeEnd>;
}

/** Two TCP connections whose far ends a server accepted, read a first piece of and paused, as the acceptor does. */
const join = async (workers: PipeWorkers, first = 'x', before?: (near: Socket) => void): Promise<Joined> => {
  const server = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const pair = async (): Promise<{ near: Socket; far: Socket; head: Buffer }> => {
    const near = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    opened.push(() => near.destroy());
    const accepted = once(server, 'connection');
    near.on('error', () => undefined);
    near.write(first);
    before?.(near);
    const [far] = (await accepted) as [Socket];
    far.on('error', () => undefined);
    opened.push(() => far.destroy());
    const [head] = (await once(far, 'data')) as [Buffer];
    far.pause();
    return { near, far, head };
  };
  const gateway = await pair();
  const agent = await pair();
  server.close();
  let ended: (end: PipeEnd) => void = () => undefined;
  const end = new Promise<PipeEnd>((resolve) => {
    ended = resolve;
  });
  const pipe = workers.join(gateway.far, agent.far, systemClock.monotonicMs(), (how) => ended(how));
  pipe.start(gateway.head, agent.head);
  return { gateway: gateway.near, agent: agent.near, pipe, end };
};

const digestOf = async (socket: Socket): Promise<{ bytes: number; digest: string }> => {
  const hash = createHash('sha256');
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    hash.update(chunk);
  });
  await once(socket, 'end');
  return { bytes, digest: hash.digest('hex') };
};

const closeCode = async (socket: Socket): Promise<string | undefined> => {
  let code: string | undefined;
  socket.on('error', (error: NodeJS.ErrnoException) => {
    code ??= error.code;
  });
  // libuv reports a reset behind unread bytes as an end.
  if (socket.readableEnded) socket.destroy();
  socket.once('end', () => socket.destroy());
  socket.resume();
  // Not once(): it rejects with the error.
  if (!socket.closed) await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return code;
};

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test('a worker copies every byte in order both ways, what was read before first, and counts them', async () => {
  const workers = await startWorkers(1);
  const up = randomBytes(24 * 1024 * 1024);
  const down = randomBytes(5 * 1024 * 1024);
  const joined = await join(workers, 'head ');
  assert.ok(!(joined.pipe instanceof BytePipe), 'the node does not copy itself');
  const received = digestOf(joined.agent);
  joined.gateway.end(up);
  const expected = createHash('sha256').update('head ').update(up).digest('hex');
  assert.deepEqual(await received, { bytes: up.length + 5, digest: expected });
  const answered = digestOf(joined.gateway);
  joined.agent.end(down);
  assert.equal((await answered).bytes, down.length + 5);
  assert.deepEqual(await joined.end, { kind: 'ended', side: 'gateway' });
  assert.deepEqual([joined.pipe.bytesUp, joined.pipe.bytesDown], [up.length + 5, down.length + 5]);
  assert.equal(workers.status()[0]?.links, 0);
});

test('nothing that arrives while a socket is on its way to a worker is lost', async () => {
  const workers = await startWorkers(1);
  // Both ends send from the first moment on, so that bytes are in every place: read, in the kernel, still to come.
  const payload = randomBytes(3 * 1024 * 1024);
  const all = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const joined = await join(workers, '', (near) => near.end(payload));
      return Promise.all([digestOf(joined.agent), digestOf(joined.gateway)]);
    }),
  );
  const expected = { bytes: payload.length, digest: createHash('sha256').update(payload).digest('hex') };
  for (const [up, down] of all) assert.deepEqual([up, down], [expected, expected]);
});

test('links are spread over the workers', async () => {
  const workers = await startWorkers(2);
  for (let index = 0; index < 4; index += 1) await join(workers);
  assert.deepEqual(
    workers.status().map(({ links }) => links),
    [2, 2],
  );
});

test('a cut resets both ends, and is done when the counts are final', async () => {
  const workers = await startWorkers(1);
  const cut = await join(workers);
  const other = await join(workers);
  cut.gateway.write(randomBytes(1024));
  other.gateway.write('still here');
  await once(other.agent, 'data');
  const closed = Promise.all([closeCode(cut.gateway), closeCode(cut.agent)]);
  const settled = cut.pipe.cut();
  assert.ok(settled !== undefined, 'a worker has to confirm');
  await settled;
  assert.deepEqual(await cut.end, { kind: 'cut' });
  assert.equal(cut.pipe.bytesUp, 1025);
  assert.equal(cut.pipe.cut(), undefined, 'nothing is left to cut');
  for (const code of await closed) assert.ok(code === undefined || code === 'ECONNRESET', code);
  other.gateway.write('and still');
  await once(other.agent, 'data');
});

test('a cut in the tick of the join leaves no live pipe', async () => {
  const workers = await startWorkers(1);
  const joined = await join(workers);
  await joined.pipe.cut();
  assert.deepEqual(
    await Promise.all([closeCode(joined.gateway), closeCode(joined.agent)]).then((c) => c.length),
    2,
  );
  assert.equal(workers.status()[0]?.links, 0);
});

test('a worker that dies loses its links only, and is started again', async () => {
  const workers = await startWorkers(2);
  const first = await join(workers);
  const second = await join(workers);
  const [pid] = workers.status().map((worker) => worker.pid ?? 0);
  assert.ok(pid !== undefined);
  process.kill(pid, 'SIGKILL');
  assert.deepEqual(await first.end, { kind: 'lost' });
  await Promise.all([closeCode(first.gateway), closeCode(first.agent)]);
  second.gateway.write('alive');
  await once(second.agent, 'data');
  await eventually('both workers are up again', () => {
    const states = workers.status();
    return states.every((worker) => worker.state === 'up' && worker.pid !== pid) ? true : undefined;
  });
});

test('a worker that does not confirm a cut is killed, and the cut is done', async () => {
  const clock = new HurriedClock();
  const workers = await startWorkers(1, clock);
  const joined = await join(workers);
  await once(joined.agent, 'data');
  const pid = workers.status()[0]?.pid ?? 0;
  process.kill(pid, 'SIGSTOP');
  opened.push(() => isRunning(pid) && process.kill(pid, 'SIGKILL'));
  const settled = joined.pipe.cut();
  clock.hurry(WORKER_CUT_MS);
  await settled;
  assert.deepEqual(await joined.end, { kind: 'lost' });
  assert.equal(isRunning(pid), false);
  await Promise.all([closeCode(joined.gateway), closeCode(joined.agent)]);
});

test('a worker that is being killed gets no link any more, and is complained of once', async () => {
  const clock = new HurriedClock();
  const complaints: string[] = [];
  const logger = pino({}, { write: (line: string) => complaints.push(line) });
  const workers = new PipeWorkers({ count: 1, clock, logger });
  opened.push(() => workers.close());
  await workers.start();
  const [first, second] = [await join(workers), await join(workers)];
  const pid = workers.status()[0]?.pid ?? 0;
  process.kill(pid, 'SIGSTOP');
  opened.push(() => isRunning(pid) && process.kill(pid, 'SIGKILL'));
  const settled = [first.pipe.cut(), second.pipe.cut()];
  clock.hurry(WORKER_CUT_MS);
  assert.equal(workers.status()[0]?.state, 'down');
  assert.ok((await join(workers)).pipe instanceof BytePipe);
  for (const done of settled) await done;
  assert.equal(complaints.filter((text) => text.includes('did not confirm a cut')).length, 1);
});

test('a worker that says nothing any more is killed', async () => {
  const clock = new HurriedClock();
  const workers = await startWorkers(1, clock);
  const joined = await join(workers);
  const pid = workers.status()[0]?.pid ?? 0;
  process.kill(pid, 'SIGSTOP');
  opened.push(() => isRunning(pid) && process.kill(pid, 'SIGKILL'));
  for (let ms = 0; ms < WORKER_SILENT_MS; ms += 1_000) {
    clock.hurry(1_000);
    workers.tick();
  }
  assert.deepEqual(await joined.end, { kind: 'lost' });
});

test('a pause of the whole machine is no silence of a worker', async () => {
  const clock = new HurriedClock();
  const workers = await startWorkers(1, clock);
  const joined = await join(workers);
  clock.hurry(10 * WORKER_SILENT_MS);
  workers.tick();
  assert.equal(workers.status()[0]?.state, 'up');
  joined.gateway.write('alive');
  await once(joined.agent, 'data');
});

test('while no worker is up the node carries a pipe itself', async () => {
  const workers = await startWorkers(0);
  const joined = await join(workers);
  assert.ok(joined.pipe instanceof BytePipe);
  await once(joined.agent, 'data');
});

test('a worker ends, and what it carries is reset, when its node is gone', async () => {
  const workers = await startWorkers(1);
  const joined = await join(workers);
  await once(joined.agent, 'data');
  const pid = workers.status()[0]?.pid ?? 0;
  const closed = Promise.all([closeCode(joined.gateway), closeCode(joined.agent)]);
  await workers.close();
  await closed;
  assert.equal(isRunning(pid), false);
});

test('a worker whose node is there and says nothing any more resets what it carries, and ends', async () => {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  opened.push(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const pair = async (): Promise<{ near: Socket; far: Socket }> => {
    const accepted = once(server, 'connection');
    const near = connect({ port, host: '127.0.0.1' });
    opened.push(() => near.destroy());
    const [far] = (await accepted) as [Socket];
    return { near, far };
  };
  const worker = startProcess(new URL('../../../dist/relay/workers/pipe-worker.js', import.meta.url));
  opened.push(() => worker.kill('SIGKILL'));
  const exit = once(worker, 'exit');
  await once(worker, 'message');
  const heard: FromWorker[] = [];
  worker.on('message', (message: FromWorker) => heard.push(message));
  const tell = (message: ToWorker, socket?: Socket): boolean => worker.send(message, socket);
  tell({ t: 'alive', forMs: 3_000 });
  const [gateway, agent] = [await pair(), await pair()];
  tell({ t: 'carrier', id: 1, side: 'gateway', head: Buffer.from('x') }, gateway.far);
  tell({ t: 'carrier', id: 1, side: 'agent', head: Buffer.alloc(0) }, agent.far);
  await once(agent.near, 'data');
  // Each word of the node counts anew.
  await eventually('four reports of the worker', () => {
    tell({ t: 'alive', forMs: 3_000 });
    return heard.filter(({ t }) => t === 'counts').length >= 4 ? true : undefined;
  });
  const closed = Promise.all([closeCode(gateway.near), closeCode(agent.near)]);
  assert.deepEqual(await exit, [0, null]);
  await closed;
  assert.ok(heard.some((message) => message.t === 'ended' && message.end.kind === 'cut'));
});
