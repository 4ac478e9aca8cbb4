import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { freePort } from '../support/free-port.ts';
import { credential, startRelayNode, TestLogin, TLS } from './relay-fixture.ts';

test('control links go to the next port when one does not answer, or something else answers there', async (t) => {
  const relay = await startRelayNode();
  let asked = 0;
  const page = createServer(TLS, (_request, response) => {
    asked += 1;
    response.writeHead(403, { 'content-type': 'text/html' }).end('<h1>blocked by policy</h1>');
  }).listen(0, '127.0.0.1');
  t.after(() => page.close());
  await once(page, 'listening');
  const { port } = page.address() as AddressInfo;
  const ports = [await freePort(), port, relay.port];
  const login = new TestLogin({ ...relay.config, control_port: ports }, 'agent', 'agent-1', [
    credential('k_listen', 'db'),
  ]);
  login.login.start();
  await login.until('onAttached');
  assert.equal(asked, 1);
  const refused = login.heard.filter(({ name }) => name === 'onCredentialRefused' || name === 'onDown');
  assert.deepEqual(refused, [], 'what is not the relay refuses no credential');
});

test('what the relay itself refuses is not asked again at its other port', async () => {
  const relay = await startRelayNode();
  const ports = [relay.port, await freePort()];
  const login = new TestLogin({ ...relay.config, control_port: ports }, 'agent', 'agent-1', [
    credential('k_none', 'db'),
  ]);
  login.login.start();
  const down = await login.until('onDown');
  assert.equal(down.status, 401);
  assert.equal(relay.control.verifying.length, 1);
});
