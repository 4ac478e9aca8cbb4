import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { BREAKER_FAILURES, BREAKER_OPEN_MS, Breaker } from '../../src/policy/engine/breaker.ts';
import { EnginePool, type EnginePoolOptions } from '../../src/policy/engine/pool.ts';
import { readBundle } from '../../src/policy/bundle/bundle.ts';
import {
  canonicalInput,
  type Decision,
  decide,
  type PolicyAlarm,
  type PolicyHost,
} from '../../src/policy/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { compileOrders, keyOf, openGuard, openHost, rawBundle, streamInput } from './support.ts';

const FAULTS = `package sallyport.allow

# METADATA
# title: Two answers at once, which throws inside the engine
# custom: {id: thrower, owner: o, expires: never}
stream["orders-db"] contains rego.metadata.rule() if {
	input.key.principal == "thrower"
	conflict == 1
}

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

conflict := 1 if input.stream.kind == "tcp"

conflict := 2 if input.stream.id == "s1"
`;

/** An instance that is used after a throw loses stack at each: some hundreds are its end. */
const THROWS = 600;

const as = (host: PolicyHost, principal: string): Promise<Decision> =>
  decide(host, streamInput({ key: keyOf(principal) }), openGuard);

const faultyHost = async (t: TestContext, options: object = {}): Promise<PolicyHost> =>
  openHost(
    t,
    await compileOrders(t, { 'sallyport/allow/faults.rego': FAULTS, 'vectors/orders.yaml': '[]' }),
    options,
  );

const summary = ({ allow, decided_by: by, reason }: Decision): unknown[] => [allow, by, reason];

const untilRunning = async (host: PolicyHost, count: number): Promise<void> => {
  const running = (): number =>
    host.engine?.evaluators.filter((evaluator) => evaluator.running() !== undefined).length ?? 0;
  while (running() < count) await new Promise((resolve) => setImmediate(resolve));
};

test('a throwing policy denies that stream; the instance is replaced, others go on', async (t) => {
  const host = await faultyHost(t);
  const answers = await Promise.all(
    ['orders-app', 'thrower', 'orders-app', 'thrower', 'orders-app'].map((who) => as(host, who)),
  );
  assert.deepEqual(answers.map(summary), [
    [true, 'policy', undefined],
    [false, 'engine', 'policy_error'],
    [true, 'policy', undefined],
    [false, 'engine', 'policy_error'],
    [true, 'policy', undefined],
  ]);
});

test('every throw discards its instance, and the engine stays whole', async (t) => {
  const { module, dataText } = await readBundle(
    await compileOrders(t, { 'sallyport/allow/faults.rego': FAULTS, 'vectors/orders.yaml': '[]' }),
  );
  const options: EnginePoolOptions = { clock: systemClock, budgetMs: 5_000, openWaitMs: 60_000 };
  const engine = await EnginePool.open({ module, dataText }, options);
  t.after(() => engine.close());
  const input = canonicalInput(streamInput({ key: keyOf('thrower') }));
  const request = { action: 'stream', input, addresses: ['10.1.2.3'] } as const;
  for (let round = 0; round < THROWS; round += 1) {
    const outcome = await engine.evaluate(request, `kind ${round}`, 'open');
    assert.ok(outcome.kind === 'failed' && outcome.reason === 'policy_error');
  }
  assert.equal(engine.stats().discarded, THROWS);
  const good = { ...request, input: canonicalInput(streamInput()) };
  const outcome = await engine.evaluate(good, 'good', 'open');
  assert.ok(outcome.kind === 'verdicts' && outcome.verdicts[0]?.allow === true);
});

test('a looping policy is cut off and replaced while other streams are decided', async (t) => {
  const host = await faultyHost(t, { budgetMs: 2_000 });
  let looped = false;
  const looping = as(host, 'looper').then((decision) => {
    looped = true;
    return decision;
  });
  const others: boolean[] = [];
  for (let at = 0; at < 20; at += 1) others.push((await as(host, 'orders-app')).allow);
  assert.ok(!looped, 'the others did not wait for it');
  assert.ok(others.every(Boolean));
  assert.deepEqual(summary(await looping), [false, 'engine', 'policy_timeout']);
  assert.deepEqual([host.status().engine?.timeouts, host.status().engine?.replaced], [1, 1]);
  assert.equal((await as(host, 'orders-app')).allow, true);
});

test('what shares a batch with a loop is evaluated again, not denied', async (t) => {
  const host = await faultyHost(t, { budgetMs: 300 });
  const names = ['orders-app', 'looper', 'orders-app', 'orders-app'];
  const answers = await Promise.all(names.map((who) => as(host, who)));
  assert.deepEqual(
    answers.map(({ reason }) => reason),
    [undefined, 'policy_timeout', undefined, undefined],
  );
});

test('repeated failures open a breaker for that kind of stream alone, with one alarm', async (t) => {
  const host = await faultyHost(t);
  const alarms: PolicyAlarm[] = [];
  host.onAlarm((alarm) => alarms.push(alarm));
  for (let at = 0; at < BREAKER_FAILURES; at += 1) await as(host, 'thrower');
  const evaluated = host.status().engine?.evaluated;
  assert.deepEqual(summary(await as(host, 'thrower')), [false, 'engine', 'policy_error']);
  assert.equal(host.status().engine?.evaluated, evaluated, 'denied without evaluation');
  assert.deepEqual(alarms, [{ kind: 'orders-db thrower', failures: BREAKER_FAILURES }]);
  assert.equal((await as(host, 'orders-app')).allow, true);
});

test('a breaker closes by itself and suspects are forgotten', () => {
  const clock = new ManualClock();
  const alarms: string[] = [];
  const breaker = new Breaker(clock, (key) => alarms.push(key));
  for (let at = 0; at < BREAKER_FAILURES + 2; at += 1) breaker.failed('a');
  assert.deepEqual(alarms, ['a']);
  assert.ok(breaker.isOpen('a') && breaker.isSuspect('a') && !breaker.isOpen('b'));
  clock.advance(BREAKER_OPEN_MS + 1);
  assert.ok(!breaker.isOpen('a') && breaker.isSuspect('a'));
  clock.advance(60_000);
  assert.ok(!breaker.isSuspect('a') && !breaker.hasFailures);
});

test('a killed evaluator denies the stream it was deciding and is replaced', async (t) => {
  const host = await faultyHost(t, { budgetMs: 60_000 });
  const looping = as(host, 'looper');
  const { engine } = host;
  assert.ok(engine);
  await untilRunning(host, 1);
  const before = engine.evaluators.map(({ threadId }) => threadId);
  await engine.evaluators.find((evaluator) => evaluator.running() !== undefined)?.kill();
  assert.deepEqual(summary(await looping), [false, 'engine', 'policy_error']);
  assert.equal(host.status().engine?.replaced, 1);
  assert.ok(engine.evaluators.some(({ threadId }) => !before.includes(threadId)));
  assert.equal((await as(host, 'orders-app')).allow, true);
});

test('all evaluators killed at once are replaced, and what waits is decided', async (t) => {
  const host = await faultyHost(t);
  const { engine } = host;
  assert.ok(engine);
  await Promise.all(engine.evaluators.map((evaluator) => evaluator.kill()));
  assert.equal((await as(host, 'orders-app')).allow, true);
});

test('an open that waits too long for an evaluator is denied', async (t) => {
  const host = await faultyHost(t, { budgetMs: 2_000, openWaitMs: 100 });
  const loopers = [as(host, 'looper')];
  await untilRunning(host, 1);
  loopers.push(as(host, 'looper'));
  await untilRunning(host, 2);
  assert.deepEqual(summary(await as(host, 'orders-app')), [false, 'engine', 'policy_overload']);
  assert.deepEqual(
    (await Promise.all(loopers)).map(({ reason }) => reason),
    ['policy_timeout', 'policy_timeout'],
  );
});

test('opens go before re-checks', async (t) => {
  const host = await faultyHost(t);
  const order: string[] = [];
  const ask = async (lane: 'open' | 'recheck'): Promise<void> => {
    await decide(host, streamInput(), openGuard, lane);
    order.push(lane);
  };
  await Promise.all([
    ...Array.from({ length: 200 }, () => ask('recheck')),
    ...Array.from({ length: 40 }, () => ask('open')),
  ]);
  const lastOpen = order.lastIndexOf('open');
  assert.ok(
    order.slice(0, lastOpen).filter((lane) => lane === 'recheck').length < 60,
    `last open at ${lastOpen}`,
  );
});

test('re-checks leave half of the evaluators to opens, unless one hangs', async (t) => {
  const host = await faultyHost(t, { workers: 4, budgetMs: 60_000 });
  const recheck = (principal: string): Promise<Decision> =>
    decide(host, streamInput({ key: keyOf(principal) }), openGuard, 'recheck');
  const busy = (): number => host.engine?.evaluators.filter(({ state }) => state === 'busy').length ?? 0;
  let most = 0;
  const asked = Array.from({ length: 200 }, async () => {
    await recheck('orders-app');
    most = Math.max(most, busy());
  });
  await Promise.all(asked);
  assert.equal(most, 2);

  const hanging = [recheck('looper'), recheck('looper')];
  await untilRunning(host, 2);
  assert.equal((await recheck('orders-app')).allow, true);
  for (const evaluator of host.engine?.evaluators ?? []) {
    if (evaluator.running() !== undefined) await evaluator.kill();
  }
  assert.deepEqual((await Promise.all(hanging)).map(summary), [
    [false, 'engine', 'policy_error'],
    [false, 'engine', 'policy_error'],
  ]);
});

test('a bundle that needs a builtin of the host is refused at load', async (t) => {
  const rego = `publish := r
stream := r
r := {"allow": time.now_ns() > 0}`;
  const host = await openHost(t, await rawBundle(t, rego, { capabilities: false }));
  assert.equal(host.active, undefined);
  assert.equal(host.status().rejected?.code, 'ERR_POLICY_BUILTIN');
  assert.match(host.status().rejected?.message ?? '', /time\.now_ns/);
});

test('a policy that allocates without end is stopped by its memory cap or its budget', async (t) => {
  const rego = `package sallyport.allow

# METADATA
# title: Allocates
# custom: {id: glutton, owner: o, expires: never}
stream["orders-db"] contains rego.metadata.rule() if {
	input.key.principal == "glutton"
	every_pair := {[a, b] | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000)}
	count(every_pair) > 0
}
`;
  const files = { 'sallyport/allow/faults.rego': rego, 'vectors/orders.yaml': '[]' };
  const host = await openHost(t, await compileOrders(t, files), { budgetMs: 60_000 });
  const { allow, reason } = await as(host, 'glutton');
  assert.deepEqual([allow, reason], [false, 'policy_error']);
  assert.equal((await as(host, 'orders-app')).allow, true);
});
