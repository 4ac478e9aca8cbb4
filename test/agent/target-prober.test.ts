import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { type Connect, connectTcp } from '../../src/agent/dialler.ts';
import type { Publication } from '../../src/agent/publication.ts';
import { Resolver } from '../../src/agent/resolver.ts';
import { TargetHealth } from '../../src/agent/target-health.ts';
import { TargetProber } from '../../src/agent/target-prober.ts';
import { ManagedSettings, parseManaged } from '../../src/policy/index.ts';
import { silentLogger, TimerWheel } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';

const CONNECTION = 'orders-db';
const INTERVAL_MS = 30_000;
const HOST = 'db.test';
const ADDRESS = '127.0.0.1';

/** A server that greets, as MySQL does, and keeps what it hears. */
const startTarget = async (t: TestContext) => {
  const heard: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write('greeting');
    socket.on('data', (chunk: Buffer) => heard.push(chunk.toString()));
    socket.on('close', () => heard.push('closed'));
  }).listen(0, ADDRESS);
  await once(server, 'listening');
  t.after(() => server.close());
  return { port: (server.address() as AddressInfo).port, server, heard };
};

const makeProber = (t: TestContext, port: number) => {
  const clock = new ManualClock();
  const wheel = new TimerWheel(clock);
  const health = new TargetHealth(clock, silentLogger);
  const dialled: string[] = [];
  const results: string[] = [];
  const connect: Connect = (address, to) => {
    dialled.push(address);
    return settings.isSilent ? new Socket() : connectTcp(address, to);
  };
  const publication = {
    credential: { connection: CONNECTION },
    connection: { target: { host: HOST, port } },
    decision: { allow: true, allowed_addresses: [ADDRESS] },
  };
  const settings = {
    published: [publication],
    isBarred: false,
    isSilent: false,
    isLoopbackAllowed: true,
    managed: ManagedSettings.absent,
    addresses: [ADDRESS] as string[] | Error,
  };
  const prober = new TargetProber({
    clock,
    wheel,
    logger: silentLogger,
    resolver: new Resolver(clock, () =>
      settings.addresses instanceof Error
        ? Promise.reject(settings.addresses)
        : Promise.resolve(settings.addresses),
    ),
    connect,
    health,
    intervalsMs: () => new Map([[CONNECTION, INTERVAL_MS]]),
    published: () => settings.published as unknown as Publication[],
    isBarred: () => settings.isBarred,
    connectTimeoutMs: () => 5_000,
    guard: () => ({
      allowLoopbackPorts: new Set(settings.isLoopbackAllowed ? [port] : []),
      ownListeners: [],
      allowAuditDatabase: false,
    }),
    managed: () => settings.managed,
    onProbed: (result) => results.push(result),
  });
  t.after(() => {
    prober.close();
    wheel.close();
  });
  return Object.assign(settings, {
    clock,
    health,
    dialled,
    results,
    publication,
    prober,
    state: () => health.status([CONNECTION])[0],
    /** Time for one probe, and until it is over. */
    async probe(count: number): Promise<void> {
      clock.advance(INTERVAL_MS);
      await eventually('probed', () => (results.length >= count ? true : undefined));
    },
    /** Time for a probe that must not come to be. */
    async none(): Promise<void> {
      const before = dialled.length;
      clock.advance(INTERVAL_MS);
      for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
      assert.equal(dialled.length, before, 'nothing was dialled');
    },
  });
};

test('a target that nobody dials is connected to, without a byte, and found away and back', async (t) => {
  const target = await startTarget(t);
  const world = makeProber(t, target.port);
  await world.probe(1);
  assert.deepEqual([world.state()?.state, world.state()?.checked_by], ['reachable', 'probe']);
  await eventually('it is closed', () => (target.heard.length > 0 ? true : undefined));
  assert.deepEqual(target.heard, ['closed']);

  await new Promise((resolve) => target.server.close(resolve));
  await world.probe(2);
  assert.equal(world.state()?.reason, 'target_unreachable');

  target.server.listen(target.port, ADDRESS);
  await once(target.server, 'listening');
  await world.probe(3);
  assert.equal(world.state()?.state, 'reachable');
  assert.deepEqual(world.results, ['reachable', 'unreachable', 'reachable']);
});

test('streams are as good as probes: none comes while they tell', async (t) => {
  const target = await startTarget(t);
  const world = makeProber(t, target.port);
  for (let minute = 0; minute < 3; minute += 1) {
    world.health.reached(CONNECTION, 'stream', ADDRESS, 1);
    world.clock.advance(INTERVAL_MS - 1_000);
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  }
  assert.deepEqual(world.dialled, []);
  await world.probe(1);
});

test('nothing is dialled but what is published, over addresses that the decision to publish allows', async (t) => {
  const target = await startTarget(t);
  const world = makeProber(t, target.port);
  world.published = [];
  await world.none();
  world.published = [world.publication];
  world.publication.decision.allow = false;
  await world.none();
  world.publication.decision.allow = true;
  world.addresses = ['127.0.0.2'];
  await world.none();
  world.isBarred = true;
  world.addresses = [ADDRESS];
  await world.none();
  world.isBarred = false;
  world.isLoopbackAllowed = false;
  await world.none();
  world.isLoopbackAllowed = true;
  const elsewhere = parseManaged('connections: enabled\ndesignated: [10.0.0.0/8:22]\n', 'managed.yaml');
  world.managed = ManagedSettings.inForce(elsewhere, 'ab'.repeat(32));
  await world.none();
  assert.equal(world.state()?.state, 'unknown', 'none of it says anything of the target');
  world.managed = ManagedSettings.absent;
  await world.probe(world.results.length + 1);
  assert.equal(world.state()?.state, 'reachable');
});

test('what is taken back while the name is looked up is not dialled', async (t) => {
  const target = await startTarget(t);
  const world = makeProber(t, target.port);
  world.clock.advance(INTERVAL_MS);
  world.published = [];
  for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
  assert.deepEqual(world.dialled, []);
});

test('a name that does not resolve is a target away, and closing ends a probe under way', async (t) => {
  const target = await startTarget(t);
  const world = makeProber(t, target.port);
  world.addresses = new Error('no such name');
  await world.probe(1);
  assert.equal(world.state()?.reason, 'dns_failure');
  world.addresses = [ADDRESS];
  world.isSilent = true;
  world.clock.advance(INTERVAL_MS);
  await eventually('a probe is under way', () => (world.dialled.length === 1 ? true : undefined));
  world.prober.close();
  world.clock.advance(60_000);
  assert.deepEqual(world.results, ['unreachable']);
});
