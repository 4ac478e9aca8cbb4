import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { Origins } from '../../src/relay/origin.ts';

test('what a header said is kept while its connection lives, and no longer', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = connect(port, '127.0.0.1');
  const [socket] = (await once(server, 'connection')) as [Socket];
  const origins = new Origins();
  assert.deepEqual(origins.of(socket), { peer: '127.0.0.1', from: '127.0.0.1' }, 'nobody said anything');
  origins.tell(socket, { peer: '127.0.0.1', from: '198.51.100.7' });
  assert.equal(origins.of(socket).from, '198.51.100.7');
  client.destroy();
  socket.resume();
  await once(socket, 'close');
  assert.equal(origins.size, 0);
  assert.equal(
    origins.of(socket).from,
    '127.0.0.1',
    'its peer, which a proxy that must send a header has no source by',
  );
});

test('the close of an earlier connection does not forget what was said of a later one with the same ends', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const origins = new Origins();
  const localPort = 20_000 + Math.floor(port / 8);
  const open = async (): Promise<[Socket, Socket]> => {
    const client = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.9', localPort });
    const [socket] = (await once(server, 'connection')) as [Socket];
    return [client, socket];
  };
  const [first, earlier] = await open();
  origins.tell(earlier, { peer: '127.0.0.9', from: '198.51.100.1' });
  first.resetAndDestroy();
  await once(first, 'close');
  const late = once(earlier.pause(), 'error');
  const [second, later] = await open();
  t.after(() => second.destroy());
  origins.tell(later, { peer: '127.0.0.9', from: '198.51.100.2' });
  earlier.resume();
  await late;
  if (!earlier.closed) await once(earlier, 'close');
  assert.equal(origins.of(later).from, '198.51.100.2');
  assert.equal(origins.size, 1);
});
