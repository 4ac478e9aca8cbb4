import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { test } from 'node:test';
import { dial } from '../../../src/protocol/carrier/dial.ts';
import { environmentProxy, noProxy } from '../../../src/protocol/carrier/proxy.ts';
import { isAppError, systemClock } from '../../../src/runtime/index.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const listening = async (onSocket: (socket: Socket) => void) => {
  const server = createServer(onSocket).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
};

test('a CONNECT proxy is passed with its credentials, and no byte behind its answer is lost', async () => {
  const heads: string[] = [];
  const proxy = await listening((socket) => {
    socket.once('data', (head: Buffer) => {
      heads.push(head.toString('latin1'));
      socket.write('HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\nfirst bytes');
    });
  });
  const socket = await dial('relay.test', 443, {
    clock: systemClock,
    proxies: environmentProxy({ HTTPS_PROXY: `http://user:secret@127.0.0.1:${proxy.port}` }),
  });
  const [bytes] = (await once(socket.resume(), 'data')) as [Buffer];
  assert.equal(bytes.toString(), 'first bytes');
  const authorization = Buffer.from('user:secret').toString('base64');
  assert.match(heads[0] ?? '', /^CONNECT relay\.test:443 HTTP\/1\.1\r\n/);
  assert.ok(heads[0]?.includes(`Proxy-Authorization: Basic ${authorization}\r\n`));
  socket.destroy();
  proxy.server.close();
});

test('a dial that is given up leaves no connection behind', { timeout: 10_000 }, async (t) => {
  const proxy = await listening(() => undefined);
  const abort = new AbortController();
  t.after(() => proxy.server.close());
  const dialled = dial('relay.test', 443, {
    // Its own timeout never comes.
    clock: new ManualClock(),
    proxies: environmentProxy({ HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` }),
    signal: abort.signal,
  });
  const [accepted] = (await once(proxy.server, 'connection')) as [Socket];
  abort.abort();
  await assert.rejects(dialled, (error) => isAppError(error));
  accepted.resume();
  await once(accepted, 'close');
});

test('a proxy that closes before it answers is not waited for', async () => {
  const proxy = await listening((socket) => {
    socket.once('data', () => socket.end());
  });
  const proxies = environmentProxy({ HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` });
  // Its timeout never comes.
  await assert.rejects(
    dial('relay.test', 443, { clock: new ManualClock(), proxies }),
    (error) => isAppError(error, 'ERR_CARRIER_PROXY') && /closed the connection/.test(error.message),
  );
  proxy.server.close();
});

test('a proxy that refuses is said plainly', async () => {
  const proxy = await listening((socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 407 Proxy Authentication Required\r\n\r\n'));
  });
  const proxies = environmentProxy({ HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` });
  await assert.rejects(
    dial('relay.test', 443, { clock: systemClock, proxies }),
    (error) =>
      isAppError(error, 'ERR_CARRIER_PROXY') &&
      /^proxy answered 407: 127\.0\.0\.1:\d+ wants credentials/.test(error.message),
  );
  proxy.server.close();
});

test('a port that refuses is said plainly', async () => {
  const { server, port } = await listening(() => undefined);
  server.close();
  await once(server, 'close');
  await assert.rejects(
    dial('127.0.0.1', port, { clock: systemClock, proxies: noProxy }),
    (error) => isAppError(error, 'ERR_CARRIER_DIAL') && error.message.includes(String(port)),
  );
});

test('a try that is stopped before or while it connects ends at once and leaves no connection', async (t) => {
  const { server, port } = await listening((socket) => socket.destroy());
  t.after(() => server.close());
  const stopping = new AbortController();
  const dialled = dial('127.0.0.1', port, {
    clock: systemClock,
    proxies: noProxy,
    signal: stopping.signal,
  });
  stopping.abort();
  const stopped = (error: unknown): boolean =>
    isAppError(error, 'ERR_CARRIER_DIAL') && error.message.endsWith('stopped');
  await assert.rejects(dialled, stopped);
  await assert.rejects(
    dial('127.0.0.1', port, { clock: systemClock, proxies: noProxy, signal: stopping.signal }),
    stopped,
  );
});
