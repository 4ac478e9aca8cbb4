import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { WebSocket } from 'ws';
import { acceptCarriers } from '../../../src/protocol/carrier/accept-web-socket.ts';
import { LINK_PROTOCOL } from '../../../src/protocol/carrier/preamble.ts';
import type { WebSocketCarrier } from '../../../src/protocol/carrier/web-socket-carrier.ts';
import { MAX_CARRIER_MESSAGE_BYTES } from '../../../src/protocol/carrier/web-socket-carrier.ts';

/** A carrier as a relay accepts it, with the bare WebSocket of the other end. */
const startPair = async (t: TestContext) => {
  const server = createServer();
  const carriers = acceptCarriers();
  let raw: Socket | undefined;
  const accepted = new Promise<WebSocketCarrier>((resolve) => {
    server.on('upgrade', (request, socket: Socket, head) => {
      raw = socket;
      const carrier = carriers.accept(request, socket, head, () => socket.resetAndDestroy());
      if (carrier !== undefined) resolve(carrier);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = new WebSocket(`ws://127.0.0.1:${port}/`, LINK_PROTOCOL);
  client.on('error', () => undefined);
  const near = await accepted;
  if (client.readyState !== WebSocket.OPEN) await once(client, 'open');
  t.after(() => {
    client.terminate();
    near.destroy();
    raw?.destroy();
    server.close();
  });
  return { near, client };
};

const closed = (carrier: WebSocketCarrier): Promise<void> =>
  new Promise((resolve) => carrier.once('close', () => resolve()));

test('bytes go in binary messages of bounded size, and an empty one ends a direction alone', async (t) => {
  const { near, client } = await startPair(t);
  const messages: Buffer[] = [];
  const gone = closed(near);
  const farGone = once(client, 'close');
  client.on('message', (data: Buffer) => messages.push(data));
  near.write(Buffer.alloc(2 * MAX_CARRIER_MESSAGE_BYTES + 7, 'x'));
  near.end('end');
  await once(near, 'finish');
  const got: Buffer[] = [];
  near.on('data', (chunk: Buffer) => got.push(chunk));
  client.send(Buffer.from('still open'));
  client.send(Buffer.alloc(0));
  await gone;
  assert.equal(Buffer.concat(got).toString(), 'still open');
  await farGone;
  const last = messages.pop();
  assert.equal(last?.length, 0, 'the end of the direction is told');
  assert.ok(messages.every(({ length }) => length > 0 && length <= MAX_CARRIER_MESSAGE_BYTES));
  assert.equal(Buffer.concat(messages).length, 2 * MAX_CARRIER_MESSAGE_BYTES + 7 + 'end'.length);
  assert.deepEqual(
    [near.bytesRead, near.bytesWritten],
    ['still open'.length, Buffer.concat(messages).length],
  );
});

for (const [what, send] of [
  ['a text message', (client: WebSocket) => client.send('text')],
  [
    'a message behind the last one',
    (client: WebSocket) => [Buffer.alloc(0), Buffer.from('x')].forEach((data) => client.send(data)),
  ],
  [
    'a message that is too long',
    (client: WebSocket) => client.send(Buffer.alloc(MAX_CARRIER_MESSAGE_BYTES + 1)),
  ],
  ['the end of the WebSocket before that of its bytes', (client: WebSocket) => client.close()],
] as const) {
  test(`${what} breaks the carrier`, async (t) => {
    const { near, client } = await startPair(t);
    const broken = once(near, 'error').catch((error: unknown) => [error]);
    near.resume();
    const gone = closed(near);
    send(client);
    const [error] = (await broken) as [unknown];
    assert.ok(error instanceof Error);
    await gone;
  });
}

test('a carrier that is reset resets the TCP connection', async (t) => {
  const { near, client } = await startPair(t);
  const error = once(Reflect.get(client, '_socket') as Socket, 'error').catch((thrown: unknown) => [thrown]);
  near.resetAndDestroy();
  const [thrown] = (await error) as [NodeJS.ErrnoException];
  assert.equal(thrown.code, 'ECONNRESET');
});
