import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { sallyport as runSallyport } from '../../test/support/command.ts';
import { startSecondGateway } from '../../test/support/second-gateway.ts';
import { isPattern, patternAt } from '../load/pattern.ts';
import { CONNECTION, makeStateDirectory, startUp } from '../tunnels/sallyport.ts';
import type { Measurement } from './scenario.ts';

const REVOKED_STREAMS = 200;
const KEPT_STREAMS = 50;
const PIECE_BYTES = 4 * 1024;
const PIECE_EVERY_MS = 10;
const SETTLE_MS = 2_000;

interface Flow {
  readonly socket: Socket;
  received: number;
  wrong: boolean;
  lastByteMs: number;
  ended: boolean;
}

const startFlow = async (address: string): Promise<Flow> => {
  const [host = '', port = ''] = address.split(':');
  const socket = connect({ host, port: Number(port), noDelay: true });
  const flow: Flow = { socket, received: 0, wrong: false, lastByteMs: 0, ended: false };
  let sent = 0;
  const send = setInterval(() => {
    if (!socket.writable || socket.writableLength > 0) return;
    socket.write(patternAt(sent, PIECE_BYTES));
    sent += PIECE_BYTES;
  }, PIECE_EVERY_MS);
  socket.on('error', () => undefined);
  socket.on('close', () => {
    clearInterval(send);
    flow.ended = true;
  });
  socket.on('data', (chunk) => {
    flow.wrong ||= !isPattern(chunk, flow.received);
    flow.received += chunk.length;
    flow.lastByteMs = performance.now();
  });
  await once(socket, 'data');
  return flow;
};

const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, SETTLE_MS));

/** Revokes one slot's key under moving streams and times the last byte at either socket. */
export const measureRevocation = async (): Promise<Measurement> => {
  const closers: (() => unknown)[] = [];
  const closer = { after: (close: () => unknown) => closers.push(close) } as never;
  let arrivals: { socket: Socket; atMs: number }[] = [];
  const server = createServer({ noDelay: true }, (socket) => {
    const arrival = { socket, atMs: 0 };
    arrivals.push(arrival);
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      arrival.atMs = performance.now();
      socket.write(chunk);
    });
  });
  server.listen({ port: 0, host: '127.0.0.1', backlog: 1024 });
  await once(server, 'listening');
  const address = server.address();
  const state = makeStateDirectory();
  const up = await startUp(typeof address === 'object' ? (address?.port ?? 0) : 0, state.path);
  const flows: Flow[] = [];
  try {
    const second = await startSecondGateway(
      closer,
      {
        gatewayFile: join(state.path, 'gateway.yaml'),
        command: (...args) => runSallyport([...args, '--state', state.path]),
      },
      CONNECTION,
    );
    const listen = up.ready.connections[0]?.listen ?? '';
    const revoked = await Promise.all(Array.from({ length: REVOKED_STREAMS }, () => startFlow(listen)));
    flows.push(...revoked);
    const revokedArrivals = arrivals;
    arrivals = [];
    const kept = await Promise.all(Array.from({ length: KEPT_STREAMS }, () => startFlow(second.listen)));
    flows.push(...kept);
    await settled();

    const token = readFileSync(up.ready.admin_token_file, 'utf8').trim();
    const startedMs = performance.now();
    const response = await fetch(`${up.ready.relay.admin_url}/api/v1/keys/${second.otherKeyId}/revoke`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ reason: 'benchmark' }),
    });
    const answeredMs = performance.now();
    if (!response.ok) throw new Error(`revoke: ${response.status} ${await response.text()}`);
    await settled();
    const alive = revoked.filter((flow) => !flow.ended).length;
    const hurt = kept.filter((flow) => flow.ended || flow.wrong).length;
    if (alive > 0 || hurt > 0) throw new Error(`${alive} revoked streams live, ${hurt} others were hurt`);
    return {
      last_byte_ms:
        Math.max(...revoked.map((flow) => flow.lastByteMs), ...revokedArrivals.map(({ atMs }) => atMs)) -
        startedMs,
      last_at_application_ms: Math.max(...revoked.map((flow) => flow.lastByteMs)) - startedMs,
      last_at_target_ms: Math.max(...revokedArrivals.map(({ atMs }) => atMs)) - startedMs,
      answered_ms: answeredMs - startedMs,
    };
  } finally {
    for (const flow of flows) flow.socket.destroy();
    for (const close of closers) await close();
    await up.stop();
    server.close();
    state.remove();
  }
};
