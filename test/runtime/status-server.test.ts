import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test, type TestContext } from 'node:test';
import {
  createRegistry,
  type Readiness,
  startStatusServer,
  type StatusServer,
  systemClock,
} from '../../src/runtime/index.ts';

const start = async (t: TestContext, readiness: Readiness): Promise<StatusServer> => {
  const server = await startStatusServer({
    listen: '127.0.0.1:0',
    registry: createRegistry('agent', { version: '1.2.3' }),
    ready: () => readiness,
    status: () => ({ streams: 3 }),
    clock: systemClock,
  });
  t.after(() => server.close());
  return server;
};

test('readiness says why not, with 503', async (t) => {
  const server = await start(t, { ready: false, reasons: ['no relay is connected'] });
  const answer = await fetch(`${server.url}/readyz`);
  assert.equal(answer.status, 503);
  assert.deepEqual(await answer.json(), { ready: false, reasons: ['no relay is connected'] });
  assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
});

test('metrics carry the prefix and the process, status is JSON', async (t) => {
  const server = await start(t, { ready: true, reasons: [] });
  assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
  const metrics = await (await fetch(`${server.url}/metrics`)).text();
  assert.match(metrics, /sallyport_nodejs_eventloop_lag_seconds\{process="agent"\}/);
  assert.match(metrics, /sallyport_build_info\{version="1.2.3",process="agent"\} 1/);
  assert.deepEqual(await (await fetch(`${server.url}/status`)).json(), { streams: 3 });
  assert.equal((await fetch(`${server.url}/nope`)).status, 404);
  assert.equal((await fetch(`${server.url}/status`, { method: 'POST' })).status, 405);
});

test('a name that a web page pointed at loopback is refused', async (t) => {
  const server = await start(t, { ready: true, reasons: [] });
  const status = await new Promise<number | undefined>((resolve, reject) => {
    const sent = request(`${server.url}/status`, { headers: { host: 'evil.example' } }, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode));
    });
    sent.on('error', reject);
    sent.end();
  });
  assert.equal(status, 421);
});

test('a port in use is refused plainly', async (t) => {
  const first = await start(t, { ready: true, reasons: [] });
  await assert.rejects(
    startStatusServer({
      listen: new URL(first.url).host,
      registry: createRegistry('agent'),
      ready: () => ({ ready: true, reasons: [] }),
      status: () => ({}),
      clock: systemClock,
    }),
    { code: 'ERR_LISTEN_REFUSED', message: /another process listens there/ },
  );
});
