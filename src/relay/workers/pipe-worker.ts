// A process of its own that copies the bytes of data links and knows nothing else: no key, no database, no listener.
import type { Socket } from 'node:net';
import type { Side } from '../../protocol/index.ts';
import { EXIT, exitProcess, resetSocket, systemClock } from '../../runtime/index.ts';
import { BytePipe } from '../byte-pipe.ts';
import type { PipeEnd } from '../link-pipe.ts';
import type { FromWorker, PipeCounts, ToWorker } from './messages.ts';

const TICK_MS = 1_000;
/** Most that one tick counts: after a pause of the whole machine the node's word may be unread behind it. */
const MAX_TICK_MS = 2 * TICK_MS;

interface Carrier {
  readonly socket: Socket;
  readonly head: Buffer;
}

interface Pair {
  gateway?: Carrier;
  agent?: Carrier;
}

const halves = new Map<number, Pair>();
const pipes = new Map<number, BytePipe>();
const reported = new Map<number, string>();

const tell = (message: FromWorker): void => {
  // Without its node a worker has nobody who could tell it of a revocation: it ends, and its sockets with it.
  if (process.connected) process.send?.(message);
};

const countsOf = (id: number, pipe: BytePipe | undefined): PipeCounts => ({
  id,
  up: pipe?.bytesUp ?? 0,
  down: pipe?.bytesDown ?? 0,
  waiting: pipe?.waitingBytes ?? 0,
});

const ended = (id: number, end: PipeEnd): void => {
  const last = countsOf(id, pipes.get(id));
  pipes.delete(id);
  reported.delete(id);
  tell({ t: 'ended', end, last });
};

const take = (id: number, side: Side, carrier: Carrier): void => {
  const pair = halves.get(id) ?? {};
  pair[side] = carrier;
  const { gateway, agent } = pair;
  if (gateway === undefined || agent === undefined) {
    halves.set(id, pair);
    return;
  }
  halves.delete(id);
  const pipe = new BytePipe(gateway.socket, agent.socket, systemClock.monotonicMs(), (end) => ended(id, end));
  pipes.set(id, pipe);
  pipe.start(gateway.head, agent.head);
};

const cut = (ids: readonly number[]): void => {
  for (const id of ids) {
    const pipe = pipes.get(id);
    if (pipe !== undefined) {
      pipe.cut();
      continue;
    }
    const half = halves.get(id);
    halves.delete(id);
    for (const carrier of [half?.gateway, half?.agent])
      if (carrier !== undefined) resetSocket(carrier.socket);
    // A pipe that has ended by itself has said so already; saying it twice is harmless.
    ended(id, { kind: 'cut' });
  }
};

/** How long the node may say nothing, and for how long it has. */
let leashMs = Number.POSITIVE_INFINITY;
let unheardMs = 0;
let tickedMs = systemClock.monotonicMs();

/** Resets everything and ends. */
const end = (): void => {
  for (const pipe of [...pipes.values()]) pipe.cut();
  exitProcess(EXIT.ok);
};

process.on('message', (message: ToWorker, socket?: Socket) => {
  unheardMs = 0;
  if (message.t === 'alive') {
    leashMs = message.forMs;
    return;
  }
  if (message.t === 'cut') {
    cut(message.ids);
    return;
  }
  const { id, side, head } = message;
  if (socket === undefined) {
    // The carrier was closed on its way.
    cut([id]);
    return;
  }
  socket.allowHalfOpen = true;
  socket.pause();
  socket.on('error', () => undefined);
  socket.setNoDelay(true);
  take(id, side, { socket, head: Buffer.from(head.buffer, head.byteOffset, head.byteLength) });
});

systemClock.every(TICK_MS, () => {
  const nowMs = systemClock.monotonicMs();
  unheardMs += Math.min(nowMs - tickedMs, MAX_TICK_MS);
  tickedMs = nowMs;
  if (unheardMs >= leashMs) {
    end();
    return;
  }
  const changed: PipeCounts[] = [];
  for (const [id, pipe] of [...pipes]) {
    pipe.tick(nowMs);
    if (!pipes.has(id)) continue;
    const counts = countsOf(id, pipe);
    const key = `${counts.up} ${counts.down} ${counts.waiting}`;
    if (reported.get(id) === key) continue;
    reported.set(id, key);
    changed.push(counts);
  }
  tell({ t: 'counts', pipes: changed });
});

// The node decides when a worker ends; a signal to the whole group (Ctrl-C, systemd) is meant for the node.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined);
process.once('disconnect', end);
tell({ t: 'ready' });
