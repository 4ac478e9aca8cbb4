import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { formatConnectionString, newKeyText } from '../../src/identity/index.ts';
import {
  CONNECTION,
  startTestAgent,
  startTestGateway,
  startTestRelay,
  statusOf,
  untilReady,
} from '../agent/ends-fixture.ts';
import { DEFAULT_BUNDLE_FILE, developmentBundle } from '../../src/policy/index.ts';
import { NAMESPACE, type Relay } from '../relay/relay-fixture.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { dial, listen, readToEnd } from '../support/sockets.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const DEADLINE = { timeout: 60_000 };
const HOST = 'db.corp.example';

const setTarget = (relay: Relay, host: string, port: number): void => {
  const record = relay.control.connectionRecords.get(CONNECTION);
  assert.ok(record);
  relay.control.connectionRecords.set(CONNECTION, { ...record, target: { host, port } });
};

const connectionOf = async (gateway: { readonly statusUrl: string }): Promise<Record<string, unknown>> => {
  const [connection] = (await statusOf(gateway))['connections'] as Record<string, unknown>[];
  assert.ok(connection);
  return connection;
};

const changeTarget = (relay: Relay, host: string, port: number): void => {
  setTarget(relay, host, port);
  const record = relay.control.connectionRecords.get(CONNECTION);
  assert.ok(record);
  relay.control.change({ change: 'set', id: record.id, name: CONNECTION });
};

const stringFor = (entityPath: string): string =>
  formatConnectionString({ host: NAMESPACE, keyName: 'k_send', key: newKeyText(), entityPath });

/** A connection of gateway.yaml that has its target's own name. */
const named = (target: string, more: object = {}) => [
  {
    name: CONNECTION,
    connection_string: stringFor(CONNECTION),
    target,
    transparent: true,
    ...more,
  },
];

/** An agent whose DNS and policy know the target's name. */
const startNamedAgent = (t: TestContext, relay: Relay, port: number) => {
  const bundleFile = join(temporaryDirectory(t, 'bundle'), 'bundle.tar.gz');
  const connection = { name: CONNECTION, host: HOST, port };
  writeFileSync(bundleFile, developmentBundle(readFileSync(DEFAULT_BUNDLE_FILE), [connection]));
  const lookup = (): Promise<string[]> => Promise.resolve(['127.0.0.1']);
  const config = { policy: { bundle_file: bundleFile, require_signed: false } };
  return startTestAgent(t, relay, port, { deps: { lookup }, config });
};

const echo = async (t: TestContext, address: string): Promise<string> => {
  const socket = dial(t, address);
  const end = readToEnd(socket);
  socket.end('through');
  const { bytes, how } = await end;
  return `${how} ${bytes.toString()}`;
};

test('an application reaches the target at its own port, at an address that stays', DEADLINE, async (t) => {
  const target = await listen(t, (socket) => socket.pipe(socket));
  const relay = await startTestRelay(t, target.port);
  setTarget(relay, HOST, target.port);
  const { agent } = await startNamedAgent(t, relay, target.port);
  await untilReady(agent);
  const state = join(temporaryDirectory(t, 'state'), 'gateway');
  const connections = named(`DB.corp.example.:${target.port}`, { aliases: ['db'] });
  const first = await startTestGateway(t, relay, { config: { connections, state_dir: state } });
  await untilReady(first.gateway);
  assert.equal(first.listen, `127.77.230.68:${target.port}`);
  const [entrance, ...more] = first.gateway.entrances;
  assert.deepEqual(
    [entrance?.kind, entrance?.connections, entrance?.listen, entrance?.names, more],
    ['transparent', [CONNECTION], first.listen, [HOST, 'db'], []],
  );
  assert.equal(await echo(t, first.listen), 'fin through');
  const { listen: own, transparent } = await connectionOf(first.gateway);
  assert.deepEqual([own, transparent], [null, { names: [HOST, 'db'], listen: first.listen }]);
  await first.gateway.close();

  const both = named(`${HOST}:${target.port}`, { listen: '127.0.0.1:0' });
  const [other] = named(`other.corp.example:${target.port}`, {
    name: 'other',
    connection_string: stringFor('other'),
  });
  assert.ok(other);
  const second = await startTestGateway(t, relay, {
    config: {
      connections: [...both, other],
      state_dir: state,
    },
  });
  const [fixed, again, beside] = second.gateway.entrances.map((entrance) => entrance.listen);
  assert.match(fixed ?? '', /^127\.0\.0\.1:/);
  assert.equal(again, first.listen, 'a restart with another host beside it changes nothing');
  assert.match(beside ?? '', new RegExp(`^127\\.77\\.\\d+\\.\\d+:${target.port}$`));
  assert.notEqual(beside, again, 'two hosts with one port have two addresses');
  await eventually(
    'through both entrances',
    async () => (await echo(t, again)) === 'fin through' || undefined,
  );
  assert.equal(await echo(t, fixed ?? ''), 'fin through');
});

test(
  'another target than gateway.yaml has is refused, said plainly, and served again when it is right',
  DEADLINE,
  async (t) => {
    const target = await listen(t, (socket) => socket.pipe(socket));
    const relay = await startTestRelay(t, target.port);
    setTarget(relay, HOST, target.port);
    const { agent } = await startNamedAgent(t, relay, target.port);
    await untilReady(agent);
    const wanted = `${HOST}:${target.port}`;
    const { gateway, listen: address } = await startTestGateway(t, relay, {
      config: { connections: named(wanted) },
    });
    await untilReady(gateway);
    const held = dial(t, address);
    const heldEnd = readToEnd(held);
    held.write('x');
    await once(held, 'data');

    // The relay now leads the connection elsewhere: what is open ends, and nothing new begins.
    changeTarget(relay, 'evil.corp.example', target.port);
    assert.equal((await heldEnd).how, 'ECONNRESET');
    const detail = `gateway.yaml has the target ${wanted}, the relay says evil.corp.example:${target.port}`;
    await eventually('the gateway was told', async () => {
      const { problem } = await connectionOf(gateway);
      return problem === `connection_unknown: ${detail}` || undefined;
    });
    assert.equal((await readToEnd(dial(t, address))).how, 'ECONNRESET');
    const [failure] = (await connectionOf(gateway))['failures'] as { reason: string; detail: string }[];
    assert.deepEqual([failure?.reason, failure?.detail], ['connection_unknown', detail]);
    assert.equal((await fetch(`${gateway.statusUrl}/readyz`)).status, 503);

    changeTarget(relay, HOST, target.port);
    await untilReady(gateway);
    await eventually('a stream', async () => (await echo(t, address)) === 'fin through' || undefined);
  },
);

test('a target that was never right gets no stream', DEADLINE, async (t) => {
  const target = await listen(t, (socket) => socket.pipe(socket));
  const relay = await startTestRelay(t, target.port);
  await untilReady((await startTestAgent(t, relay, target.port)).agent);
  const { gateway, listen: address } = await startTestGateway(t, relay, {
    config: { connections: named(`${HOST}:${target.port}`) },
  });
  assert.equal((await readToEnd(dial(t, address))).how, 'ECONNRESET');
  const { problem, links } = await connectionOf(gateway);
  assert.match(String(problem), /^connection_unknown: gateway\.yaml has the target db\.corp\.example/);
  assert.deepEqual(links, []);
  assert.deepEqual(target.sockets, []);
});

test('an address that somebody has is said with what to do', DEADLINE, async (t) => {
  const target = await listen(t, () => undefined);
  const relay = await startTestRelay(t, target.port);
  const port = await freePort();
  const taken = createServer().listen(port, '0.0.0.0');
  await once(taken, 'listening');
  t.after(() => taken.close());
  await assert.rejects(startTestGateway(t, relay, { config: { connections: named(`${HOST}:${port}`) } }), {
    code: 'ERR_LISTEN_REFUSED',
    message: new RegExp(
      `connection db \\(db\\.corp\\.example\\) cannot listen on 127\\.77\\.230\\.68:${port}: another process listens there: a second gateway, or a server that listens on every address`,
    ),
  });
});
