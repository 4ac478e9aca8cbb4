import assert from 'node:assert/strict';
import { test } from 'node:test';
import { probeCarrier, type ProbeCarrierOptions } from '../../src/protocol/carrier/probe-carrier.ts';
import { spkiFingerprint, systemClock } from '../../src/runtime/index.ts';
import { freePort } from '../support/free-port.ts';
import { interceptingAuthority, startInterceptingProxy } from '../support/intercepting-proxy.ts';
import { CA, HOST, startRelayNode, TLS } from './relay-fixture.ts';

const OWN = spkiFingerprint(TLS.cert);
const corp = await interceptingAuthority();

const ask = (
  kind: 'tcp' | 'websocket',
  port: number,
  changes: Partial<ProbeCarrierOptions> = {},
): ReturnType<typeof probeCarrier> =>
  probeCarrier({
    host: HOST,
    choice: { kind, port },
    side: 'agent',
    ca: CA,
    told: OWN,
    clock: systemClock,
    signal: new AbortController().signal,
    proxies: undefined,
    ...changes,
  });

test('both carriers of both sides are answered by the node itself', async () => {
  const { port } = await startRelayNode();
  for (const side of ['agent', 'gateway'] as const)
    for (const kind of ['tcp', 'websocket'] as const)
      assert.deepEqual(await ask(kind, port, { side }), { failure: undefined, interceptedBy: undefined });
});

test('nobody there, and another node there, are said', async () => {
  const port = await freePort();
  for (const kind of ['tcp', 'websocket'] as const)
    assert.match((await ask(kind, port)).failure ?? '', new RegExp(`cannot connect to ${HOST}:${port}`));
  const other = await startRelayNode({ publicHost: 'other.test' });
  for (const kind of ['tcp', 'websocket'] as const)
    assert.equal((await ask(kind, other.port)).failure, 'node other.test answers there');
});

test('what ends TLS on the way is named by its issuer; over it the WebSocket works and TCP does not', async (t) => {
  const relay = await startRelayNode();
  const proxy = await startInterceptingProxy(t, {
    authority: corp,
    names: [HOST],
    target: { host: HOST, port: relay.port },
  });
  const tcp = await ask('tcp', proxy.port);
  assert.equal(tcp.interceptedBy, 'Corp Inspection CA');
  assert.match(tcp.failure ?? '', /^intercepted by Corp Inspection CA/);
  // A gateway's carrier does not look like TLS: nothing comes back.
  const gateway = await ask('tcp', proxy.port, { side: 'gateway' });
  assert.notEqual(gateway.failure, undefined);

  const trusted = await ask('websocket', proxy.port, { ca: corp.certPem });
  assert.deepEqual(trusted, { failure: undefined, interceptedBy: 'Corp Inspection CA' });
  const untrusted = await ask('websocket', proxy.port);
  const refused =
    /the server.s certificate, issued by "CN=Corp Inspection CA", is vouched for by no authority/;
  assert.match(untrusted.failure ?? '', refused);
});

test('a probe that is stopped ends', async () => {
  const { port } = await startRelayNode();
  const signal = AbortSignal.abort();
  for (const kind of ['tcp', 'websocket'] as const)
    assert.notEqual((await ask(kind, port, { signal })).failure, undefined);
});
