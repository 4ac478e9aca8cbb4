import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Publisher } from '../../src/agent/publisher.ts';
import { Resolver } from '../../src/agent/resolver.ts';
import type { Decision, PolicyInputBase } from '../../src/policy/index.ts';
import type { AttachedCredential, ConnectionInfo } from '../../src/protocol/index.ts';
import { type CloseReason, silentLogger, TimerWheel } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { allow, deny, Trace } from './harness.ts';
import { MemoryAudit } from './memory-audit.ts';

const NODE = 'relay.test';
const credential: AttachedCredential = {
  handle: 'h',
  cred: 'c',
  key_id: 'k_listener',
  principal: 'orders-agent',
  auth_rule: 'defaultListener',
  slot: 'primary',
  claims: ['Listen'],
  connection: 'db',
  connection_id: 'id-db',
  expires_at_ms: 0,
};
const connection: ConnectionInfo = {
  name: 'db',
  id: 'id-db',
  target: { host: 'db.test', port: 5_432 },
  labels: {},
};

interface Rig {
  readonly clock: ManualClock;
  readonly trace: Trace;
  readonly audit: MemoryAudit;
  generation: number;
  answer: (base: PolicyInputBase) => Promise<Decision>;
  lookup: () => Promise<string[]>;
  revoked: CloseReason | undefined;
  pin: { host: string; port: number } | undefined;
  readonly publisher: Publisher;
}

const makeRig = (): Rig => {
  const clock = new ManualClock();
  const trace = new Trace();
  const audit = new MemoryAudit();
  const rig: Rig = {
    clock,
    trace,
    audit,
    generation: 1,
    answer: (base) => Promise.resolve(allow(base, rig.generation)),
    lookup: () => Promise.resolve(['10.0.0.1']),
    revoked: undefined,
    pin: undefined,
    publisher: new Publisher({
      namespace: 'ns',
      agent: { name: 'agent-1', instance: 'a1', labels: {}, version: '0' },
      spki: 'spki',
      clock,
      wheel: new TimerWheel(clock),
      logger: silentLogger,
      audit,
      policy: {
        get generation() {
          return rig.generation;
        },
        decide: (base) => {
          trace.add('decide');
          return rig.answer(base);
        },
      },
      resolver: new Resolver(clock, () => rig.lookup()),
      now: () => ({
        managed: { require_proof: false },
        time: {
          unix_ms: 0,
          rfc3339: '1970-01-01T00:00:00Z',
          local: { date: '1970-01-01', weekday: 'thu', hour: 0, minute: 0, zone: 'UTC' },
        },
      }),
      usage: () => ({ connection: { streams: 0 }, agent: { streams: 0 } }),
      pinned: () => rig.pin,
      onDecided: () => undefined,
      revoked: () => rig.revoked,
      onOffered: () => undefined,
      port: () => ({
        publish: (name) => {
          trace.add(`publish ${name}`);
          return Promise.resolve();
        },
        unpublish: (name) => trace.add(`unpublish ${name}`),
      }),
    }),
  };
  return rig;
};

const start = (rig: Rig): void => {
  rig.publisher.onAttached(NODE, credential);
  rig.publisher.onConnection(NODE, connection);
};

const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

const stateOf = (rig: Rig): string | undefined => rig.publisher.status()[0]?.state;
const target = (rig: Rig): ConnectionInfo['target'] | undefined =>
  rig.publisher.target(NODE, 'db', 'id-db', 'k_listener');

test('what policy allows is recorded, then published, then a target of streams', async () => {
  const rig = makeRig();
  start(rig);
  assert.equal(target(rig), undefined);
  await rig.trace.until('publish db');
  await settled();
  assert.equal(rig.audit.of('publish.decision')[0]?.data.allow, true);
  assert.deepEqual(target(rig), connection.target);
  assert.deepEqual(rig.publisher.offeredAt(NODE), ['db']);
  // Another key, another id or another node has nothing published.
  assert.equal(rig.publisher.target(NODE, 'db', 'id-db', 'k_other'), undefined);
  assert.equal(rig.publisher.target(NODE, 'db', 'id-other', 'k_listener'), undefined);
  assert.equal(rig.publisher.target('other', 'db', 'id-db', 'k_listener'), undefined);
});

test('nothing is published that is denied, unrecorded, revoked, pinned elsewhere or without address', async () => {
  for (const [state, change] of [
    ['denied', (rig: Rig) => (rig.answer = (base) => Promise.resolve(deny(base, 1)))],
    ['failed', (rig: Rig) => (rig.audit.isAvailable = false)],
    ['failed', (rig: Rig) => (rig.answer = () => Promise.reject(new Error('engine died')))],
    ['denied', (rig: Rig) => (rig.revoked = 'key_revoked')],
    ['denied', (rig: Rig) => (rig.pin = { host: 'other.test', port: 5_432 })],
    ['failed', (rig: Rig) => (rig.lookup = () => Promise.reject(new Error('no such name')))],
  ] as const) {
    const rig = makeRig();
    change(rig);
    start(rig);
    await settled();
    assert.equal(stateOf(rig), state);
    assert.equal(target(rig), undefined);
    assert.ok(!rig.trace.lines.includes('publish db'));
  }
});

test('a bundle that no longer allows it takes it back, with an event', async () => {
  const rig = makeRig();
  start(rig);
  await rig.trace.until('publish db');
  rig.generation = 2;
  rig.answer = (base) => Promise.resolve(deny(base, 2));
  rig.publisher.evaluateAll();
  await rig.trace.until('unpublish db');
  assert.equal(target(rig), undefined);
  assert.equal(rig.audit.of('unpublish')[0]?.data.reason, 'policy_denied');
  assert.deepEqual(
    rig.audit.of('publish.decision').map(({ data }) => [data.allow, data.recheck]),
    [
      [true, undefined],
      [false, true],
    ],
  );
});

test('a decision of a bundle that is gone already publishes nothing; the new one decides', async () => {
  const rig = makeRig();
  let asked = 0;
  rig.answer = (base) => {
    asked += 1;
    if (asked === 1) rig.generation = 2;
    return Promise.resolve(asked === 1 ? allow(base, 1) : deny(base, 2));
  };
  start(rig);
  await settled();
  assert.equal(stateOf(rig), 'denied');
  assert.ok(!rig.trace.lines.includes('publish db'));
});

test('what failed for a passing reason is tried again', async () => {
  const rig = makeRig();
  rig.lookup = () => Promise.reject(new Error('no such name'));
  start(rig);
  await settled();
  rig.lookup = () => Promise.resolve(['10.0.0.1']);
  rig.clock.advance(5_200);
  await rig.trace.until('publish db');
});

test('a connection that is gone is no target any more, and one that comes back is', async () => {
  const rig = makeRig();
  start(rig);
  await rig.trace.until('publish db');
  rig.publisher.onConnectionGone(NODE, 'db');
  assert.equal(target(rig), undefined);
  rig.publisher.onConnection(NODE, connection);
  while (target(rig) === undefined) await once(rig.trace, 'line');
});

test('a lost control link leaves the decision, so that links of before go on, but offers nothing', async () => {
  const rig = makeRig();
  start(rig);
  await rig.trace.until('publish db');
  await settled();
  rig.publisher.onDown(NODE);
  assert.deepEqual(target(rig), connection.target);
  assert.deepEqual(rig.publisher.offeredAt(NODE), []);
  rig.publisher.onAttached(NODE, credential);
  await settled();
  assert.deepEqual(rig.publisher.offeredAt(NODE), ['db']);
});

test('the same answer is recorded once, however often it is asked', async () => {
  const rig = makeRig();
  start(rig);
  await rig.trace.until('publish db');
  rig.clock.advance(60_200);
  await settled();
  rig.clock.advance(60_200);
  await settled();
  assert.ok(rig.trace.lines.filter((line) => line === 'decide').length >= 3);
  assert.equal(rig.audit.of('publish.decision').length, 1);
  assert.equal(rig.trace.lines.filter((line) => line === 'publish db').length, 1);
});
