import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, test } from 'node:test';
import { randomBytes } from '../../src/runtime/index.ts';
import {
  BytePipe,
  PIPE_BUFFER_BYTES,
  PIPE_LINGER_MS,
  PIPE_SILENT_MS,
  PIPE_STUCK_MS,
} from '../../src/relay/byte-pipe.ts';
import type { PipeEnd } from '../../src/relay/link-pipe.ts';

const opened: Socket[] = [];
afterEach(() => {
  for (const socket of opened.splice(0)) socket.destroy();
});

/** Two TCP connections with a pipe between their far ends, as between gateway, relay and agent. */
const piped = async () => {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const pair = async (): Promise<[Socket, Socket]> => {
    const near = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const [far] = (await once(server, 'connection')) as [Socket];
    for (const socket of [near, far]) socket.on('error', () => undefined);
    opened.push(near, far);
    return [near, far];
  };
  const [gateway, gatewaySide] = await pair();
  const [agent, agentSide] = await pair();
  server.close();
  let ended: (end: PipeEnd) => void = () => undefined;
  const end = new Promise<PipeEnd>((resolve) => {
    ended = resolve;
  });
  const pipe = new BytePipe(gatewaySide, agentSide, 0, (how) => ended(how));
  return { gateway, agent, gatewaySide, agentSide, pipe, end };
};

const readAll = (socket: Socket): Promise<Buffer> =>
  new Promise((resolve) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.once('end', () => resolve(Buffer.concat(chunks)));
  });

const closed = (socket: Socket): Promise<string | undefined> =>
  new Promise((resolve) => {
    let code: string | undefined;
    socket.once('error', (error: NodeJS.ErrnoException) => {
      code = error.code;
    });
    socket.once('close', () => resolve(code));
    // libuv reports a reset behind unread bytes as an end.
    socket.once('end', () => socket.destroy());
    socket.resume();
  });

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('every byte is copied in order both ways, counted, and flushed before the end', async () => {
  const { gateway, agent, pipe, end } = await piped();
  const up = randomBytes(5 * 1024 * 1024);
  const down = randomBytes(3 * 1024 * 1024);
  pipe.start(Buffer.from('head of gateway '), Buffer.from('head of agent '));
  gateway.end(up);
  const got = await readAll(agent);
  assert.ok(got.equals(Buffer.concat([Buffer.from('head of gateway '), up])));
  agent.end(down);
  const back = await readAll(gateway);
  assert.ok(back.equals(Buffer.concat([Buffer.from('head of agent '), down])));
  assert.deepEqual(await end, { kind: 'ended', side: 'gateway' });
  assert.equal(pipe.bytesUp, up.length + 'head of gateway '.length);
  assert.equal(pipe.bytesDown, down.length + 'head of agent '.length);
});

test('a side that does not read stops the other at a fixed number of bytes', async () => {
  const { gateway, agent, pipe } = await piped();
  pipe.start(Buffer.alloc(0), Buffer.alloc(0));
  const block = Buffer.alloc(256 * 1024);
  let peak = 0;
  let quiet = 0;
  let last = -1;
  gateway.on('drain', () => undefined);
  while (quiet < 200 && peak <= PIPE_BUFFER_BYTES) {
    if (gateway.writableLength < 1024 * 1024) gateway.write(block);
    await turn();
    peak = Math.max(peak, pipe.waitingBytes);
    quiet = pipe.bytesUp === last ? quiet + 1 : 0;
    last = pipe.bytesUp;
  }
  assert.ok(peak > 0, 'the agent does not read, so bytes wait');
  assert.ok(peak <= PIPE_BUFFER_BYTES, `peak of ${peak} bytes`);
  pipe.cut();
  await Promise.all([closed(gateway), closed(agent)]);
});

test('a cut resets both sockets in the same call', async () => {
  const { gateway, agent, gatewaySide, agentSide, pipe, end } = await piped();
  pipe.start(Buffer.alloc(0), Buffer.alloc(0));
  gateway.write('hello');
  await once(agent, 'data');
  pipe.cut();
  assert.ok(gatewaySide.destroyed && agentSide.destroyed);
  assert.deepEqual(await end, { kind: 'cut' });
  assert.deepEqual(await Promise.all([closed(gateway), closed(agent)]), ['ECONNRESET', 'ECONNRESET']);
});

test('a cut while an end is on its way leaks no socket', async () => {
  const { gateway, agent, agentSide, gatewaySide, pipe } = await piped();
  pipe.start(Buffer.alloc(0), Buffer.alloc(0));
  gateway.end('last words');
  await once(gatewaySide, 'end');
  pipe.cut();
  assert.ok(agentSide.destroyed && gatewaySide.destroyed);
  await Promise.all([closed(gateway), closed(agent)]);
});

test('45 s without a byte either way is the end, a byte in between is not', async () => {
  const { gateway, agent, pipe, end } = await piped();
  pipe.start(Buffer.alloc(0), Buffer.alloc(0));
  pipe.tick(PIPE_SILENT_MS - 1);
  gateway.write('ping');
  await once(agent, 'data');
  pipe.tick(PIPE_SILENT_MS);
  pipe.tick(2 * PIPE_SILENT_MS - 1);
  pipe.tick(2 * PIPE_SILENT_MS);
  assert.deepEqual(await end, { kind: 'silent' });
  await Promise.all([closed(gateway), closed(agent)]);
});

test('60 s without progress while bytes wait is the end, although the other way is busy', async () => {
  const { gateway, agent, pipe, end } = await piped();
  pipe.start(Buffer.alloc(0), Buffer.alloc(0));
  gateway.resume();
  while (pipe.waitingBytes === 0) {
    gateway.write(Buffer.alloc(1024 * 1024));
    await turn();
  }
  let settled = pipe.bytesUp;
  for (let quiet = 0; quiet < 100; quiet += 1) {
    await turn();
    if (pipe.bytesUp !== settled) quiet = 0;
    settled = pipe.bytesUp;
  }
  let ended = false;
  void end.then(() => {
    ended = true;
  });
  pipe.tick(1);
  for (let nowMs = 10_000; nowMs < PIPE_STUCK_MS; nowMs += 10_000) {
    agent.write('busy');
    await once(gateway, 'data');
    pipe.tick(nowMs);
    await turn();
    assert.equal(ended, false, `at ${nowMs} ms`);
  }
  pipe.tick(PIPE_STUCK_MS + 1);
  assert.deepEqual(await end, { kind: 'stuck' });
  await Promise.all([closed(gateway), closed(agent)]);
});

test('a side that does not end after the other is given 5 s', async () => {
  const { gateway, agent, pipe, end } = await piped();
  pipe.start(Buffer.alloc(0), Buffer.alloc(0));
  gateway.end();
  await once(agent.resume(), 'end');
  pipe.tick(PIPE_LINGER_MS - 1);
  agent.write('late');
  const [late] = (await once(gateway, 'data')) as [Buffer];
  assert.equal(late.toString(), 'late');
  pipe.tick(PIPE_LINGER_MS);
  assert.deepEqual(await end, { kind: 'ended', side: 'gateway' });
  gateway.destroy();
  agent.destroy();
});

test('a side that breaks ends the other', async () => {
  const { gateway, agent, pipe, end } = await piped();
  pipe.start(Buffer.alloc(0), Buffer.alloc(0));
  gateway.write('x');
  await once(agent, 'data');
  gateway.resetAndDestroy();
  await once(agent.resume(), 'end');
  agent.end();
  assert.deepEqual(await end, { kind: 'broken', side: 'gateway' });
});
