import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Shadow, type ShadowStatus } from '../../src/agent/shadow.ts';
import { SHADOW_QUEUE } from '../../src/agent/shadow-queue.ts';
import { MAX_FAILURES_IN_A_ROW } from '../../src/agent/shadow-run.ts';
import type { ShadowResult } from '../../src/agent/shadow-tally.ts';
import {
  decideWithin,
  keySigner,
  ManagedSettings,
  type PolicyHost,
  type PolicyHostOptions,
  signBundle,
} from '../../src/policy/index.ts';
import { isAppError, silentLogger, systemClock } from '../../src/runtime/index.ts';
import { makeKey, trusted } from '../policy/signing-support.ts';
import { compileOrders, keyOf, openGuard, openHost, scratch, streamInput } from '../policy/support.ts';
import { eventually } from '../support/eventually.ts';
import { MemoryAudit } from './memory-audit.ts';

const NO_VECTORS = { 'vectors/orders.yaml': '[]' };
const KEPT = 'policy.shadow.tar.gz';
const bounds = { guard: openGuard, managed: ManagedSettings.absent };

/** Allows the same as the orders fixture, denies one principal, lets in another, and does worse to three. */
const OTHER = `package sallyport.allow

# METADATA
# title: Not this one any more
# custom: {id: not-orders-app, owner: o}
deny["orders-db"] contains rego.metadata.rule() if input.key.principal == "orders-app"

# METADATA
# title: But this one
# custom: {id: newcomer, owner: o, expires: never}
stream["orders-db"] contains rego.metadata.rule() if input.key.principal == "newcomer"

# METADATA
# title: Throws inside the engine
# custom: {id: thrower, owner: o, expires: never}
stream["orders-db"] contains rego.metadata.rule() if {
	input.key.principal == "thrower"
	conflict == 1
}

conflict := 1 if input.stream.kind == "tcp"

conflict := 2 if input.stream.id == "s1"

# METADATA
# title: Longer than anyone waits
# custom: {id: looper, owner: o, expires: never}
stream["orders-db"] contains rego.metadata.rule() if {
	input.key.principal == "looper"
	some a in numbered
	some b in numbered
	some c in numbered
	a < b
	b < c
	c < a
}

numbered := {number | some number in numbers.range(1, 3000)}

# METADATA
# title: Takes all memory
# custom: {id: glutton, owner: o, expires: never}
stream["orders-db"] contains rego.metadata.rule() if {
	input.key.principal == "glutton"
	every_pair := {[a, b] | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000)}
	count(every_pair) > 0
}
`;

interface Rig {
  readonly host: PolicyHost;
  readonly audit: MemoryAudit;
  readonly shadow: Shadow;
  readonly stateDir: string;
  /** What became of decisions, one by one, as metrics have it. */
  readonly results: ShadowResult[];
  /** Decides as the agent does, and shows it to the shadow; the decision is the active bundle's. */
  readonly decide: (principal: string, count?: number) => Promise<boolean>;
}

const other = (t: TestContext, sequence = 9): Promise<Buffer> =>
  compileOrders(t, { ...NO_VECTORS, 'sallyport/allow/other.rego': OTHER }, sequence);

const rig = async (
  t: TestContext,
  options: Partial<PolicyHostOptions> = {},
  stateDir = scratch(t),
): Promise<Rig> => {
  const host = await openHost(t, await compileOrders(t, NO_VECTORS), options);
  const audit = new MemoryAudit();
  const results: ShadowResult[] = [];
  const shadow = new Shadow({
    host,
    audit,
    clock: systemClock,
    logger: silentLogger,
    stateDir,
    subject: { namespace: 'ns', agent: 'a1' },
    bounds: () => bounds,
    hasGrantsFile: () => false,
    onResult: (result) => void results.push(result),
  });
  t.after(() => shadow.close());
  const decide = async (principal: string, count = 1): Promise<boolean> => {
    const base = streamInput({ key: keyOf(principal) });
    const decision = await decideWithin(host, base, bounds);
    const subject = { connection: 'orders-db', principal };
    for (let at = 0; at < count; at += 1) shadow.saw({ base, decision, decisionId: 'e1', subject });
    return decision.allow;
  };
  return { host, audit, shadow, stateDir, results, decide };
};

const never = new AbortController().signal;

const evaluated = (shadow: Shadow, count: number): Promise<ShadowStatus> =>
  eventually(`${String(count)} are evaluated`, () => {
    const status = shadow.status();
    return (status.counts?.evaluated ?? 0) >= count ? status : undefined;
  });

test('differences are recorded with both verdicts, and nothing of the active decision changes', async (t) => {
  const { host, audit, shadow, results, decide } = await rig(t);
  await shadow.begin(await other(t), 'SEC-42', never);
  const { active } = host;
  assert.equal(active?.sequence, 7);
  for (let at = 0; at < 5; at += 1) assert.equal(await decide('orders-app'), true);
  assert.equal(await decide('newcomer'), false);
  assert.equal(await decide('nobody'), false);
  const { counts, bundle } = await evaluated(shadow, 7);
  assert.deepEqual(
    [counts?.evaluated, counts?.would_deny, counts?.would_allow, counts?.same, counts?.errors],
    [7, 5, 1, 1, 0],
  );
  assert.deepEqual(results.toSorted(), [
    'same',
    'would_allow',
    ...Array.from({ length: 5 }, () => 'would_deny'),
  ]);
  const events = audit.of('policy.shadow');
  assert.equal(events.length, 2, 'one of each kind; the others are counted');
  const [denied, allowed] = events;
  assert.equal(denied?.data.difference, 'would_deny');
  assert.equal(denied.data.shadow, true);
  assert.equal(denied.data.allow, false);
  assert.equal(denied.data.decision_id, 'e1');
  assert.equal(denied.data.input, undefined, 'the decision has it');
  assert.deepEqual(denied.data.bundle, bundle);
  assert.deepEqual(
    denied.data.reasons?.map(({ code }) => code),
    ['policy:not-orders-app'],
  );
  assert.deepEqual([denied.data.active?.allow, denied.data.active?.rule], [true, 'orders-app']);
  assert.equal(denied.data.active?.bundle?.sha256, active.sha256);
  assert.deepEqual([allowed?.data.difference, allowed?.data.rule], ['would_allow', 'newcomer']);
  assert.deepEqual(host.active, active);
  const [started] = audit.of('admin.action');
  assert.deepEqual([started?.data.action, started?.data.reason], ['policy.shadow_started', 'SEC-42']);

  assert.equal(await shadow.stop('done'), true);
  const last = audit.of('policy.shadow').slice(2);
  assert.deepEqual(
    last.map(({ data }) => [data.count, data.tally?.would_deny, data.reason]),
    [
      [4, undefined, undefined],
      [undefined, 5, 'stopped'],
    ],
  );
  assert.equal(shadow.status().state, 'off');
  assert.equal(await shadow.stop('again'), false);
});

for (const hostile of ['looper', 'thrower', 'glutton']) {
  test(`a shadow bundle harms nothing: ${hostile}`, async (t) => {
    const { host, shadow, decide } = await rig(t, { budgetMs: 2_000 });
    await shadow.begin(await other(t), undefined, never);
    assert.equal(await decide(hostile), false, 'the active bundle does not know it');
    for (let at = 0; at < 20; at += 1) assert.equal(await decide('orders-app'), true);
    const { counts } = await evaluated(shadow, 21);
    assert.deepEqual([counts?.errors, counts?.would_deny], [1, 20]);
    const { errors, timeouts, overloads, replaced } = host.status().engine ?? {};
    assert.deepEqual([errors, timeouts, overloads, replaced], [0, 0, 0, 0]);
  });
}

test('a bundle that gives no answer often enough is ended, and said to be', async (t) => {
  const { host, audit, shadow, decide } = await rig(t);
  await shadow.begin(await other(t), undefined, never);
  await decide('thrower', MAX_FAILURES_IN_A_ROW);
  const status = await eventually('it is ended', () =>
    shadow.status().state === 'failed' ? shadow.status() : undefined,
  );
  assert.match(status.detail ?? '', /policy_error/);
  const [end] = audit.of('policy.shadow');
  assert.deepEqual([end?.data.reason, end?.data.tally?.errors], ['no_answer', MAX_FAILURES_IN_A_ROW]);
  assert.equal(await decide('orders-app'), true);
  assert.equal(host.status().engine?.errors, 0);
});

test('what finds no room in the queue is dropped and counted', async (t) => {
  const { shadow, results, decide } = await rig(t);
  await shadow.begin(await other(t), undefined, never);
  await decide('nobody', SHADOW_QUEUE + 5);
  const { counts } = await evaluated(shadow, SHADOW_QUEUE);
  assert.deepEqual([counts?.same, counts?.dropped], [SHADOW_QUEUE, 5]);
  const dropped = results.filter((result) => result === 'dropped').length;
  assert.deepEqual([results.length, dropped], [SHADOW_QUEUE + 5, 5]);
});

test('it is kept over restarts, until it is stopped or activated', async (t) => {
  const first = await rig(t);
  const bundle = await other(t);
  await first.shadow.begin(bundle, undefined, never);
  const kept = join(first.stateDir, 'policy.shadow.tar.gz');
  assert.equal(statSync(kept).mode & 0o777, 0o600);
  await first.shadow.close();
  assert.deepEqual(
    first.audit.of('policy.shadow').map(({ data }) => data.reason),
    ['agent_shutdown'],
  );

  const second = await rig(t, {}, first.stateDir);
  second.shadow.resume();
  await eventually('it runs again', () => (second.shadow.status().state === 'running' ? true : undefined));
  assert.equal(await second.host.offer(bundle), 'active');
  await eventually('it is over', () => (second.shadow.status().state === 'off' ? true : undefined));
  assert.ok(!existsSync(kept));
  await assert.rejects(second.shadow.begin(bundle, undefined, never), (error) =>
    isAppError(error, 'ERR_AGENT_ASKED'),
  );
  assert.equal(second.shadow.status().state, 'off');
});

test('what no agent would activate is no shadow either; a lower sequence is', async (t) => {
  const { audit, shadow, stateDir } = await rig(t);
  await assert.rejects(shadow.begin(Buffer.from('x'), undefined, never), (error) =>
    isAppError(error, 'ERR_POLICY_ARCHIVE'),
  );
  assert.deepEqual([audit.events.length, existsSync(join(stateDir, 'policy.shadow.tar.gz'))], [0, false]);
  await shadow.begin(await other(t, 1), undefined, never);
  assert.equal(shadow.status().bundle?.sequence, 1);
});

test('a shadow whose key is taken out sees no decision from that tick on, and is back with its key', async (t) => {
  const [old, fresh] = [makeKey('ES256'), makeKey('ES256')];
  const both = [trusted(old, 'old'), trusted(fresh, 'fresh')];
  const { host, audit, shadow, stateDir, decide } = await rig(t, { keys: both });
  const bundle = await signBundle(await other(t), keySigner(fresh.privatePem), 'in-the-token');
  await shadow.begin(bundle, undefined, never);
  assert.equal(shadow.status().signedBy, 'fresh');
  await decide('orders-app');
  await evaluated(shadow, 1);
  const done = host.trust({ requireSigned: false, keys: both.slice(0, 1) });
  assert.notEqual(shadow.status().state, 'running', 'in the same tick');
  await done;
  await decide('orders-app', 3);
  const refusedState = await eventually('it is judged by the other keys', () =>
    shadow.status().state === 'refused' ? shadow.status() : undefined,
  );
  assert.match(refusedState.detail ?? '', /sign/);
  const [end] = audit.of('policy.shadow').filter(({ data }) => data.reason !== undefined);
  assert.deepEqual([end?.data.reason, end?.data.tally?.evaluated], ['bundle_untrusted', 1]);
  assert.ok(existsSync(join(stateDir, KEPT)));
  assert.equal(await decide('orders-app'), true);

  await host.trust({ requireSigned: false, keys: both });
  await eventually('it runs again', () => (shadow.status().state === 'running' ? true : undefined));
  await host.trust({ requireSigned: false, keys: [trusted(fresh, 'renamed')] });
  assert.equal(shadow.status().state, 'running', 'the key is there, under another id');
});

/** What happens while the start is being recorded. */
const MEANWHILE: Readonly<Record<string, (host: PolicyHost, bundle: Buffer) => Promise<unknown>>> = {
  'is activated': (host, bundle) => host.offer(bundle),
  'has its key taken out': (host) => host.trust({ requireSigned: true, keys: [trusted(makeKey('ES256'))] }),
};

for (const [what, happen] of Object.entries(MEANWHILE)) {
  test(`a bundle that ${what} while its start is recorded is no shadow`, async (t) => {
    const { host, audit, shadow, stateDir } = await rig(t);
    const bundle = await other(t);
    const record = audit.record.bind(audit);
    audit.record = async (event) => {
      const recorded = await record(event);
      await happen(host, bundle);
      return recorded;
    };
    await assert.rejects(shadow.begin(bundle, undefined, never), (error) =>
      isAppError(error, 'ERR_AGENT_ASKED'),
    );
    assert.deepEqual([shadow.status().state, existsSync(join(stateDir, KEPT))], ['off', false]);
    assert.deepEqual(
      audit.of('admin.action').map(({ data }) => data.action),
      ['policy.shadow_started', 'policy.shadow_stopped'],
    );
  });
}

test('a shadow that failed is forgotten when it is activated', async (t) => {
  const { host, shadow, stateDir, decide } = await rig(t);
  const bundle = await other(t);
  await shadow.begin(bundle, undefined, never);
  await decide('thrower', MAX_FAILURES_IN_A_ROW);
  await eventually('it is ended', () => (shadow.status().state === 'failed' ? true : undefined));
  assert.equal(await host.offer(await other(t, 8)), 'active');
  assert.ok(existsSync(join(stateDir, KEPT)), 'another one was activated');
  assert.equal(await host.offer(bundle), 'active');
  await eventually('it is over', () => (shadow.status().state === 'off' ? true : undefined));
  assert.ok(!existsSync(join(stateDir, KEPT)));
});

test('a start that cannot be recorded does not happen', async (t) => {
  const { audit, shadow, stateDir } = await rig(t);
  audit.isAvailable = false;
  await assert.rejects(shadow.begin(await other(t), undefined, never), (error) =>
    isAppError(error, 'ERR_AUDIT_UNAVAILABLE'),
  );
  assert.deepEqual(
    [shadow.status().state, existsSync(join(stateDir, 'policy.shadow.tar.gz'))],
    ['off', false],
  );
});
