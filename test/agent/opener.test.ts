import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { test } from 'node:test';
import { ManagedSettings, parseManaged } from '../../src/policy/index.ts';
import { CONNECTION_ATTEMPT_DELAY_MS } from '../../src/agent/dialler.ts';
import { ANSWER_KEPT_MS } from '../../src/agent/resolver.ts';
import { AppError, DEFAULT_WHEEL_TICK_MS } from '../../src/runtime/index.ts';
import { ADDRESS, allow, deny, FakeIncoming, makeHarness, openOne, PORT } from './harness.ts';

const dialled = (lines: readonly string[]): string[] => lines.filter((line) => line.startsWith('connect'));

test('an allowed stream is decided, recorded, dialled and accepted in that order', async () => {
  const harness = makeHarness();
  const incoming = await openOne(harness);
  assert.deepEqual(harness.trace.lines, [
    'decide',
    'record allow',
    'recorded e1',
    `connect ${ADDRESS}:${PORT}`,
    'accept e1',
  ]);
  assert.equal(harness.streams.count, 1);
  assert.equal(harness.slots.inUse, 1);
  incoming.end('client_fin');
  assert.equal(harness.streams.count, 0);
  assert.equal(harness.slots.inUse, 0);
  const close = harness.events.at(-1);
  assert.equal(close?.type, 'stream.close');
  assert.equal(close.data.reason, 'client_fin');
  assert.equal(close.data.decision_id, 'e1');
});

test('connect waits until the decision is recorded', async () => {
  const harness = makeHarness();
  let release: () => void = () => undefined;
  harness.audit.record = () => {
    harness.trace.add('record held');
    return new Promise((resolve) => {
      release = () => resolve({ event_id: 'e1', seq: 1 });
    });
  };
  const incoming = new FakeIncoming(harness.trace);
  harness.opener.open(incoming, harness.link);
  await harness.trace.until('record held');
  await nextTurn();
  assert.deepEqual(dialled(harness.trace.lines), []);
  release();
  await harness.trace.until('accept');
  assert.equal(dialled(harness.trace.lines).length, 1);
});

test('without a bundle every stream is refused no_bundle and nothing is dialled', async () => {
  const harness = makeHarness();
  harness.policy.answer = (base) =>
    Promise.resolve(deny(base, 1, { decided_by: 'engine', reason: 'no_bundle' }));
  const incoming = await openOne(harness);
  assert.deepEqual(incoming.refusal, { code: 'no_bundle', movable: false, decision_id: 'e1' });
  assert.deepEqual(dialled(harness.trace.lines), []);
  assert.equal(harness.slots.inUse, 0);
});

test('an engine that throws refuses the stream', async () => {
  const harness = makeHarness();
  harness.policy.answer = () => Promise.reject(new Error('engine died'));
  const incoming = await openOne(harness);
  assert.equal(incoming.refusal?.code, 'internal');
  assert.equal(incoming.refusal.movable, false);
  assert.deepEqual(dialled(harness.trace.lines), []);
  assert.equal(harness.slots.inUse, 0);
});

test('a decision that cannot be recorded refuses audit_unavailable, movable', async () => {
  const harness = makeHarness();
  harness.audit.record = () => Promise.reject(new AppError('ERR_AUDIT_UNAVAILABLE', 'disk is full'));
  const incoming = await openOne(harness);
  assert.deepEqual(incoming.refusal, { code: 'audit_unavailable', movable: true });
  assert.deepEqual(dialled(harness.trace.lines), []);
  assert.equal(harness.slots.inUse, 0);
});

test('a denial carries its reason and decision id, is recorded, and is never movable', async () => {
  const harness = makeHarness();
  harness.policy.answer = (base) => Promise.resolve(deny(base, 1));
  const incoming = await openOne(harness);
  assert.deepEqual(incoming.refusal, { code: 'policy_denied', movable: false, decision_id: 'e1' });
  assert.equal(harness.slots.inUse, 0);
  const failure = harness.failures.latest(1)[0];
  assert.equal(failure?.reason, 'policy_denied');
  assert.equal(failure.decision_id, 'e1');
  assert.deepEqual(failure.reasons, [{ code: 'no_rule', args: {} }]);
});

test('a denial is told although it could not be recorded', async () => {
  const harness = makeHarness();
  harness.policy.answer = (base) => Promise.resolve(deny(base, 1));
  harness.audit.record = () => Promise.reject(new AppError('ERR_AUDIT_UNAVAILABLE', 'disk is full'));
  const incoming = await openOne(harness);
  assert.deepEqual(incoming.refusal, { code: 'policy_denied', movable: false });
});

test('a key revoked between decision and connect is never dialled', async () => {
  const harness = makeHarness();
  const { record } = harness.audit;
  harness.audit.record = async (event) => {
    const recorded = await record(event);
    harness.link.barredBy = 'key_revoked';
    return recorded;
  };
  const incoming = await openOne(harness);
  assert.equal(incoming.refusal?.code, 'key_revoked');
  assert.deepEqual(dialled(harness.trace.lines), []);
  assert.equal(harness.slots.inUse, 0);
  const close = harness.events.at(-1);
  assert.equal(close?.type, 'stream.close');
  assert.equal(close.data.reason, 'key_revoked');
});

test('an agent that began to drain meanwhile dials nothing more', async () => {
  const harness = makeHarness();
  const { record } = harness.audit;
  harness.audit.record = async (event) => {
    const recorded = await record(event);
    harness.barredBy = 'agent_shutdown';
    return recorded;
  };
  const incoming = await openOne(harness);
  assert.equal(incoming.refusal?.code, 'agent_shutdown');
  assert.equal(incoming.refusal.movable, true);
  assert.deepEqual(dialled(harness.trace.lines), []);
});

test('a bundle activated between decision and connect decides again, and its denial holds', async () => {
  const harness = makeHarness();
  const { record } = harness.audit;
  harness.policy.answer = (base) => {
    const { generation } = harness.policy;
    return Promise.resolve(generation === 1 ? allow(base, generation) : deny(base, generation));
  };
  harness.audit.record = async (event) => {
    const recorded = await record(event);
    harness.policy.generation = 2;
    return recorded;
  };
  const incoming = await openOne(harness);
  assert.equal(incoming.refusal?.code, 'policy_denied');
  assert.deepEqual(dialled(harness.trace.lines), []);
  assert.equal(harness.slots.inUse, 0);
});

test('an answer of a bundle that is gone already is not recorded but asked again', async () => {
  const harness = makeHarness();
  let asked = 0;
  harness.policy.answer = (base) => {
    asked += 1;
    if (asked === 1) harness.policy.generation = 2;
    return Promise.resolve(allow(base, asked));
  };
  await openOne(harness);
  assert.deepEqual(harness.trace.lines.slice(0, 3), ['decide', 'decide', 'record allow']);
});

test('bundles that change without end refuse the stream', async () => {
  const harness = makeHarness();
  harness.policy.answer = (base) => {
    harness.policy.generation += 1;
    return Promise.resolve(allow(base, harness.policy.generation - 1));
  };
  const incoming = await openOne(harness);
  assert.equal(incoming.refusal?.code, 'policy_overload');
  assert.deepEqual(dialled(harness.trace.lines), []);
});

test('an address that the guard refuses is not dialled even when it was allowed', async () => {
  const harness = makeHarness();
  harness.policy.answer = (base) =>
    Promise.resolve(allow(base, 1, { allowed_addresses: ['169.254.169.254', '127.0.0.1'] }));
  const incoming = await openOne(harness);
  assert.equal(incoming.refusal?.code, 'guard_denied');
  assert.deepEqual(dialled(harness.trace.lines), []);
});

test('an address that managed settings do not designate is not dialled even when it was allowed', async () => {
  const harness = makeHarness();
  const config = parseManaged('designated: [10.1.2.4:5432]', 'f');
  harness.policy.answer = (base) =>
    Promise.resolve(allow(base, 1, { allowed_addresses: [ADDRESS, '10.1.2.4'] }));
  harness.managed = ManagedSettings.inForce(config, 'ab'.repeat(32));
  await openOne(harness);
  assert.deepEqual(dialled(harness.trace.lines), ['connect 10.1.2.4:5432']);
  harness.policy.answer = (base) => Promise.resolve(allow(base, 1, { allowed_addresses: [ADDRESS] }));
  assert.equal((await openOne(harness, { id: 'second' })).refusal?.code, 'managed_denied');
});

test('only addresses that were evaluated and allowed are dialled, in their order', async () => {
  const harness = makeHarness({
    host: 'db.test',
    lookup: () => Promise.resolve(['10.0.0.1', '10.0.0.2', '10.0.0.3']),
  });
  harness.isReachable = false;
  harness.policy.answer = (base) => {
    assert.deepEqual(base.target.addresses, ['10.0.0.1', '10.0.0.2', '10.0.0.3']);
    return Promise.resolve(allow(base, 1, { allowed_addresses: ['10.0.0.1', '10.0.0.3'] }));
  };
  const incoming = new FakeIncoming(harness.trace);
  harness.opener.open(incoming, harness.link);
  await harness.trace.until('connect 10.0.0.1');
  harness.sockets[0]?.emit('error', Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
  await harness.trace.until('connect 10.0.0.3');
  harness.sockets[1]?.emit('error', Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
  await harness.trace.until('refuse');
  assert.deepEqual(dialled(harness.trace.lines), [`connect 10.0.0.1:${PORT}`, `connect 10.0.0.3:${PORT}`]);
  assert.equal(incoming.refusal?.code, 'target_unreachable');
  assert.equal(incoming.refusal.movable, true);
  assert.equal(harness.slots.inUse, 0);
  assert.equal(harness.streams.count, 0);
});

test('addresses are raced, and the evidence names the one that won', async () => {
  const harness = makeHarness({
    host: 'db.test',
    lookup: () => Promise.resolve(['10.0.0.1', '10.0.0.2']),
  });
  harness.isReachable = false;
  const incoming = new FakeIncoming(harness.trace);
  harness.opener.open(incoming, harness.link);
  await harness.trace.until('connect 10.0.0.1');
  harness.clock.advance(CONNECTION_ATTEMPT_DELAY_MS + DEFAULT_WHEEL_TICK_MS);
  assert.equal(harness.sockets.length, 2);
  harness.sockets[1]?.emit('connect');
  assert.equal(harness.sockets[0]?.destroyed, true);
  assert.deepEqual(
    [...harness.streams].map(({ addresses }) => addresses),
    [['10.0.0.2']],
  );
  incoming.end('client_fin');
  assert.equal(harness.events.at(-1)?.subject.target_addr, '10.0.0.2');
});

test('a name that comes to mean a forbidden address is asked again, and not dialled', async () => {
  let answer = ['10.0.0.1'];
  const harness = makeHarness({ host: 'db.test', lookup: () => Promise.resolve(answer) });
  await openOne(harness);
  answer = ['169.254.169.254'];
  harness.clock.advance(ANSWER_KEPT_MS + 1);
  const incoming = await openOne(harness, { id: 'stream-2' });
  assert.equal(incoming.refusal?.code, 'guard_denied');
  assert.deepEqual(dialled(harness.trace.lines), [`connect 10.0.0.1:${PORT}`]);
});

test('a target that does not answer is target_timeout after the connect timeout', async () => {
  const harness = makeHarness();
  harness.isReachable = false;
  const incoming = new FakeIncoming(harness.trace);
  harness.opener.open(incoming, harness.link);
  await harness.trace.until('connect');
  harness.clock.advance(5_200);
  assert.equal(incoming.refusal?.code, 'target_timeout');
  assert.equal(harness.sockets[0]?.destroyed, true);
  assert.equal(harness.slots.inUse, 0);
});

test('a name without an address is dns_failure, movable', async () => {
  const harness = makeHarness({
    host: 'db.test',
    lookup: () => Promise.reject(Object.assign(new Error('no'), { code: 'ENOTFOUND' })),
  });
  const incoming = await openOne(harness);
  assert.deepEqual(incoming.refusal, { code: 'dns_failure', movable: true });
  assert.equal(harness.slots.inUse, 0);
});

test('a resolver that never answers ends in open_timeout and frees the slot', async () => {
  const harness = makeHarness({ host: 'db.test', lookup: () => new Promise(() => undefined) });
  const incoming = new FakeIncoming(harness.trace);
  harness.opener.open(incoming, harness.link);
  assert.equal(harness.slots.inUse, 1);
  harness.clock.advance(15_200);
  assert.equal(incoming.refusal?.code, 'open_timeout');
  assert.equal(harness.slots.inUse, 0);
});

test('a client that goes away before the decision never causes a dial', async () => {
  const harness = makeHarness();
  const incoming = new FakeIncoming(harness.trace);
  harness.opener.open(incoming, harness.link);
  incoming.abort('client_reset');
  await nextTurn();
  await nextTurn();
  assert.deepEqual(dialled(harness.trace.lines), []);
  assert.equal(incoming.refusal, undefined);
  assert.equal(harness.slots.inUse, 0);
});

test('a client that goes away while the allow is written never causes a dial, and the end is recorded', async () => {
  const harness = makeHarness();
  const incoming = new FakeIncoming(harness.trace);
  harness.opener.open(incoming, harness.link);
  await harness.trace.until('record allow');
  incoming.abort('client_reset');
  await harness.trace.until('note stream.close client_reset');
  assert.deepEqual(dialled(harness.trace.lines), []);
  assert.equal(harness.slots.inUse, 0);
});

test('a client that goes away while dialling stops the dial', async () => {
  const harness = makeHarness();
  harness.isReachable = false;
  const incoming = new FakeIncoming(harness.trace);
  harness.opener.open(incoming, harness.link);
  await harness.trace.until('connect');
  incoming.abort('client_reset');
  assert.equal(harness.sockets[0]?.destroyed, true);
  assert.equal(harness.streams.count, 0);
  assert.equal(harness.slots.inUse, 0);
  assert.equal(incoming.refusal, undefined);
});

test('a stream cut while dialling is refused with the reason', async () => {
  const harness = makeHarness();
  harness.isReachable = false;
  const incoming = new FakeIncoming(harness.trace);
  harness.opener.open(incoming, harness.link);
  await harness.trace.until('connect');
  assert.equal(
    harness.streams.cut('key_revoked', () => true),
    1,
  );
  assert.equal(incoming.refusal?.code, 'key_revoked');
  assert.equal(harness.slots.inUse, 0);
  harness.sockets[0]?.emit('connect');
  assert.equal(incoming.session, undefined);
});

test('slots: limits of agent, principal and connection refuse before any decision', async () => {
  for (const [limits, code] of [
    [{ agent: 1 }, 'overloaded'],
    [{ principal: 1 }, 'limit_denied'],
    [{ connection: 1 }, 'limit_denied'],
  ] as const) {
    const harness = makeHarness({ limits });
    await openOne(harness);
    harness.trace.lines.length = 0;
    const second = await openOne(harness, { id: 'stream-2' });
    assert.equal(second.refusal?.code, code);
    assert.ok(!harness.trace.lines.includes('decide'));
    assert.equal(harness.slots.inUse, 1);
  }
});

test('usage counts older streams only, and max_streams_per_principal is enforced on it', async () => {
  const harness = makeHarness();
  const seen: (number | undefined)[] = [];
  harness.policy.answer = (base) => {
    seen.push(base.usage.principal?.streams);
    return Promise.resolve(
      allow(base, 1, { obligations: { recheck_seconds: 60, max_streams_per_principal: 1 } }),
    );
  };
  const first = await openOne(harness);
  assert.equal(first.refusal, undefined);
  const second = await openOne(harness, { id: 'stream-2' });
  assert.equal(second.refusal?.code, 'limit_denied');
  assert.deepEqual(seen, [0, 1]);
  assert.equal(harness.slots.inUse, 1);
});

test('the close of a stream under a lost link waits for the reason', async () => {
  const harness = makeHarness();
  const incoming = await openOne(harness);
  incoming.end('link_lost', true);
  assert.equal(harness.slots.inUse, 0);
  assert.ok(!harness.events.some(({ type }) => type === 'stream.close'));
  harness.link.end('key_revoked');
  const close = harness.events.at(-1);
  assert.equal(close?.type, 'stream.close');
  assert.equal(close.data.reason, 'key_revoked');
});

test('an accept that throws refuses internal and destroys the socket', async () => {
  const harness = makeHarness();
  const incoming = new FakeIncoming(harness.trace);
  incoming.accept = () => {
    throw new Error('no');
  };
  harness.opener.open(incoming, harness.link);
  await harness.trace.until('refuse internal');
  assert.equal(harness.sockets[0]?.destroyed, true);
  assert.equal(harness.slots.inUse, 0);
  assert.equal(harness.streams.count, 0);
});

test('identical denials beyond the stated number are counted, not written one by one', async () => {
  const harness = makeHarness();
  harness.policy.answer = (base) => Promise.resolve(deny(base, 1));
  for (let index = 0; index < 60; index += 1) await openOne(harness, { id: `stream-${index}` });
  assert.equal(harness.events.filter(({ type }) => type === 'stream.decision').length, 50);
  harness.clock.advance(10_000);
  await openOne(harness, { id: 'stream-later' });
  const last = harness.events.at(-1);
  assert.equal(last?.type === 'stream.decision' && last.data.count, 11);
});

test('streams that fail alike again and again are counted, not written one by one', async () => {
  const harness = makeHarness();
  harness.audit.record = () => Promise.reject(new AppError('ERR_AUDIT_OVER_SHARE', 'the share is used up'));
  for (let index = 0; index < 60; index += 1) {
    const incoming = await openOne(harness, { id: `stream-${index}` });
    assert.deepEqual(incoming.refusal, { code: 'audit_unavailable', movable: true });
  }
  assert.equal(harness.events.filter(({ type }) => type === 'stream.refused').length, 50);
  harness.clock.advance(10_000);
  harness.opener.flushDenials(false);
  const last = harness.events.at(-1);
  assert.equal(last?.type === 'stream.refused' && last.data.count, 10);
  assert.equal(last?.type === 'stream.refused' && last.data.detail, 'the share is used up');
});

test('denials held back are written with their count when no other comes', async () => {
  const harness = makeHarness();
  harness.policy.answer = (base) => Promise.resolve(deny(base, 1));
  for (let index = 0; index < 57; index += 1) await openOne(harness, { id: `stream-${index}` });
  harness.opener.flushDenials(false);
  assert.equal(harness.events.length, 50);
  harness.clock.advance(10_000);
  harness.opener.flushDenials(false);
  const last = harness.events.at(-1);
  assert.equal(harness.events.length, 51);
  assert.equal(last?.type === 'stream.decision' && last.data.count, 7);
  assert.equal(last?.subject.stream_id, 'stream-56');
});
