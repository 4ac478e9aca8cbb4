import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { type AddressInfo, createServer, type Server, Socket } from 'node:net';
import { test } from 'node:test';
import {
  CONNECTION_ATTEMPT_DELAY_MS,
  type Connect,
  connectTcp,
  Dial,
  type DialFailure,
  interleaveFamilies,
} from '../../src/agent/dialler.ts';
import { DEFAULT_WHEEL_TICK_MS, TimerWheel } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import type { Closer } from '../support/temporary.ts';

const CONNECT_TIMEOUT_MS = 5_000;
/** The delay has passed, also on a wheel that calls a tick later. */
const DELAY_PASSED_MS = CONNECTION_ATTEMPT_DELAY_MS + DEFAULT_WHEEL_TICK_MS;
/** TEST-NET-1 (RFC 5737): what these tests take for addresses without an answer; no packet is sent there. */
const SILENT = ['192.0.2.1', '192.0.2.2'] as const;

interface Race {
  readonly clock: ManualClock;
  readonly wheel: TimerWheel;
  readonly dial: Dial;
  /** Addresses of every connect(), in order. */
  readonly dialled: string[];
  readonly sockets: Map<string, Socket>;
  readonly failures: DialFailure[];
  readonly winners: string[];
  /** The first connected or failed. */
  readonly over: Promise<string>;
}

/** A dial over real sockets, but to `SILENT` addresses, which never answer. */
const race = (
  t: Closer,
  addresses: readonly string[],
  port: number,
  refuse: (address: string) => DialFailure | undefined = () => undefined,
): Race => {
  const clock = new ManualClock();
  const wheel = new TimerWheel(clock);
  const dialled: string[] = [];
  const sockets = new Map<string, Socket>();
  const failures: DialFailure[] = [];
  const winners: string[] = [];
  const connect: Connect = (address, to) => {
    dialled.push(address);
    const isSilent = (SILENT as readonly string[]).includes(address);
    const socket = isSilent ? new Socket() : connectTcp(address, to);
    sockets.set(address, socket);
    return socket;
  };
  let resolve: (what: string) => void = () => undefined;
  const over = new Promise<string>((settle) => {
    resolve = settle;
  });
  const dial = new Dial({ addresses, port, connectTimeoutMs: CONNECT_TIMEOUT_MS, refuse }, connect, wheel, {
    onConnected: (_socket, address) => {
      winners.push(address);
      resolve(address);
    },
    onFailed: (failure) => {
      failures.push(failure);
      resolve(failure.reason);
    },
  });
  t.after(() => {
    dial.abort();
    for (const socket of sockets.values()) socket.destroy();
  });
  return { clock, wheel, dial, dialled, sockets, failures, winners, over };
};

interface Target {
  readonly port: number;
  readonly server: Server;
}

/** `::` is every loopback address of both families on one port; `127.0.0.1` leaves 127.0.0.2 refusing. */
const target = async (t: Closer, host: string): Promise<Target> => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.resume();
  });
  server.listen({ port: 0, host });
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, server };
};

test('a silent address costs one delay: the next is tried beside it, wins, and the silent one is closed', async (t) => {
  const { port } = await target(t, '::');
  const { clock, wheel, dial, dialled, sockets, winners, over } = race(t, [SILENT[0], '127.0.0.2'], port);
  dial.start();
  clock.advance(CONNECTION_ATTEMPT_DELAY_MS - 1);
  assert.deepEqual(dialled, [SILENT[0]]);
  clock.advance(DELAY_PASSED_MS);
  assert.deepEqual(dialled, [SILENT[0], '127.0.0.2']);
  assert.equal(await over, '127.0.0.2');
  assert.equal(sockets.get(SILENT[0])?.destroyed, true);
  assert.equal(sockets.get('127.0.0.2')?.destroyed, false);
  assert.equal(wheel.pendingCount, 0);
  clock.advance(CONNECT_TIMEOUT_MS * 2);
  assert.deepEqual(winners, ['127.0.0.2']);
});

test('an address that refuses costs no delay: the clock never moves', async (t) => {
  const { port } = await target(t, '127.0.0.1');
  const { dial, dialled, over } = race(t, ['127.0.0.2', '127.0.0.3', '127.0.0.1'], port);
  dial.start();
  assert.equal(await over, '127.0.0.1');
  assert.deepEqual(dialled, ['127.0.0.2', '127.0.0.3', '127.0.0.1']);
});

test('of two that connect one wins, and the target sees the other closed', async (t) => {
  const { port, server } = await target(t, '::');
  const { clock, dial, dialled, sockets, winners, over } = race(t, ['127.0.0.2', '127.0.0.3'], port);
  const accepted: Socket[] = [];
  const ended: string[] = [];
  const closes = new EventEmitter();
  const oneClosed = once(closes, 'close');
  server.on('connection', (socket: Socket) => {
    const address = (socket.localAddress ?? '').replace('::ffff:', '');
    accepted.push(socket);
    socket.once('close', () => {
      ended.push(address);
      closes.emit('close');
    });
  });
  // Both are under way before either can connect: nothing of a socket happens within this turn.
  dial.start();
  clock.advance(DELAY_PASSED_MS);
  assert.deepEqual(dialled, ['127.0.0.2', '127.0.0.3']);
  const winner = await over;
  const loser = winner === '127.0.0.2' ? '127.0.0.3' : '127.0.0.2';
  assert.equal(sockets.get(loser)?.destroyed, true);
  // A loser that was closed before its handshake was over is never accepted.
  if (accepted.length > 1) {
    await oneClosed;
    assert.deepEqual(ended, [loser]);
  }
  assert.equal(sockets.get(winner)?.destroyed, false);
  assert.deepEqual(winners, [winner]);
});

test('families take turns, beginning with that of the first address', () => {
  assert.deepEqual(
    interleaveFamilies(['2001:db8::1', '2001:db8::2', '2001:db8::3', '192.0.2.1', '192.0.2.2']),
    ['2001:db8::1', '192.0.2.1', '2001:db8::2', '192.0.2.2', '2001:db8::3'],
  );
  assert.deepEqual(interleaveFamilies(['192.0.2.1', '192.0.2.2', '2001:db8::1']), [
    '192.0.2.1',
    '2001:db8::1',
    '192.0.2.2',
  ]);
  assert.deepEqual(interleaveFamilies([]), []);
});

test('a target with IPv6 alone is reached, past IPv4 addresses that refuse', async (t) => {
  const { port } = await target(t, '::1');
  const { dial, dialled, over } = race(t, ['127.0.0.2', '127.0.0.3', '::1'], port);
  dial.start();
  assert.equal(await over, '::1');
  assert.deepEqual(dialled, ['127.0.0.2', '::1']);
});

test('each address is asked about just before its own connect(), and a refused one is passed over at once', async (t) => {
  const { port } = await target(t, '::');
  const asked: string[] = [];
  let isForbidden = false;
  const { clock, dial, dialled, over } = race(t, [SILENT[0], '127.0.0.2', '127.0.0.3'], port, (address) => {
    asked.push(address);
    const refusal = { reason: 'guard_denied', detail: `${address}: no` } as const;
    return isForbidden && address === '127.0.0.2' ? refusal : undefined;
  });
  dial.start();
  assert.deepEqual(asked, [SILENT[0]]);
  isForbidden = true;
  clock.advance(DELAY_PASSED_MS);
  assert.deepEqual(dialled, [SILENT[0], '127.0.0.3']);
  assert.equal(await over, '127.0.0.3');
});

test('the connect timeout of each address runs from its own start, and all are told in the end', (t) => {
  const { clock, wheel, dial, sockets, failures } = race(t, SILENT, 9);
  dial.start();
  clock.advance(DELAY_PASSED_MS);
  clock.advance(CONNECT_TIMEOUT_MS - DELAY_PASSED_MS + DEFAULT_WHEEL_TICK_MS);
  assert.equal(sockets.get(SILENT[0])?.destroyed, true);
  assert.equal(sockets.get(SILENT[1])?.destroyed, false);
  assert.deepEqual(failures, []);
  clock.advance(DELAY_PASSED_MS);
  assert.equal(sockets.get(SILENT[1])?.destroyed, true);
  const detail = `no answer from ${SILENT[0]}; no answer from ${SILENT[1]}`;
  assert.deepEqual(failures, [{ reason: 'target_timeout', detail }]);
  assert.equal(wheel.pendingCount, 0);
});

test('the reason is that of an address that was dialled, whatever was refused after it', async (t) => {
  const { port } = await target(t, '127.0.0.1');
  const { dial, failures, over } = race(t, ['127.0.0.2', '169.254.169.254'], port, (address) =>
    address === '127.0.0.2' ? undefined : { reason: 'guard_denied', detail: `${address}: metadata` },
  );
  dial.start();
  assert.equal(await over, 'target_unreachable');
  assert.equal(failures[0]?.detail, '127.0.0.2: ECONNREFUSED; 169.254.169.254: metadata');
});

test('a dial that is stopped closes every connect() under way and calls nobody', async (t) => {
  const { port } = await target(t, '::');
  const { clock, wheel, dial, sockets, winners, failures } = race(t, [...SILENT, '127.0.0.2'], port);
  dial.start();
  clock.advance(DELAY_PASSED_MS);
  clock.advance(DELAY_PASSED_MS);
  assert.equal(sockets.size, SILENT.length + 1);
  const closed = [...sockets.values()].map((socket) => once(socket, 'close'));
  dial.abort();
  await Promise.all(closed);
  clock.advance(CONNECT_TIMEOUT_MS * 2);
  assert.deepEqual([winners, failures, wheel.pendingCount], [[], [], 0]);
});
