import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { MOVE_LIMIT_MS } from '../../src/policy/host.ts';
import { decide, type PolicyHost } from '../../src/policy/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { compileOrders, openGuard, openHost, scratch, streamInput } from './support.ts';

const NOBODY = `package sallyport.allow

# METADATA
# title: Nobody
# custom: {id: nobody, owner: o}
deny["*"] contains rego.metadata.rule()
`;

const denying = (t: TestContext, sequence: number): Promise<Buffer> =>
  compileOrders(t, { 'sallyport/allow/none.rego': NOBODY, 'vectors/orders.yaml': '[]' }, sequence);

const allows = async (host: PolicyHost): Promise<boolean> =>
  (await decide(host, streamInput(), openGuard)).allow;

test('a bundle of another source takes over by review, under a sequence of its own', async (t) => {
  const host = await openHost(t, await compileOrders(t), { stateDir: scratch(t) });
  const { generation } = host;
  const file = join(scratch(t), 'other.tar.gz');
  writeFileSync(file, await compileOrders(t, {}, 3));
  const reviewed: number[] = [];
  host.reviewBy((candidate) => {
    reviewed.push(candidate.active?.sequence ?? 0);
    return Promise.resolve({ live: 1, wouldClose: 0, isHeld: false });
  });
  const moved = host.moveTo({ source: { file } });
  assert.equal(host.isMoving, true, 'in the tick of the move');
  assert.ok(host.generation > generation, 'what was decided before does not count');
  assert.equal(host.active?.sequence, 7, 'until it has one, the one before goes on');
  assert.equal(host.current, undefined);
  await moved;
  assert.deepEqual(reviewed, [3]);
  const { active } = host.status();
  assert.deepEqual([active?.sequence, host.isMoving, host.sourceName], [3, false, file]);
  assert.equal(await allows(host), true);
  writeFileSync(file, await compileOrders(t, {}, 2));
  await host.reload();
  assert.equal(host.status().rejected?.code, 'ERR_POLICY_SEQUENCE');
});

test('one that is held leaves the one before, and is confirmed; what the source before gives is refused', async (t) => {
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  const host = await openHost(t, await compileOrders(t), { bundleFile });
  const file = join(scratch(t), 'other.tar.gz');
  writeFileSync(file, await denying(t, 3));
  host.reviewBy(() => Promise.resolve({ live: 20, wouldClose: 20, isHeld: true }));
  await host.moveTo({ source: { file } });
  assert.deepEqual([host.status().held?.sequence, host.active?.sequence, host.isMoving], [3, 7, true]);
  writeFileSync(bundleFile, await compileOrders(t, {}, 9));
  await host.reload();
  assert.deepEqual([host.status().held?.sequence, host.active?.sequence], [3, 7]);
  assert.equal(await host.activateHeld(host.status().held?.id ?? ''), true);
  assert.deepEqual([host.active?.sequence, host.isMoving], [3, false]);
  assert.equal(await allows(host), false);
});

test('a source without a good bundle: everything is denied, until it has one', async (t) => {
  const host = await openHost(t, await compileOrders(t));
  const withdrawn: string[] = [];
  host.onWithdrawn(({ message }) => withdrawn.push(message));
  const file = join(scratch(t), 'other.tar.gz');
  await host.moveTo({ source: { file } });
  assert.deepEqual([host.active, host.isMoving], [undefined, false]);
  assert.match(withdrawn[0] ?? '', /sequence 7\) came from .*other\.tar\.gz now, which gave none/);
  const denied = await decide(host, streamInput(), openGuard);
  assert.deepEqual([denied.allow, denied.reasons[0]?.code], [false, 'bundle_untrusted']);
  writeFileSync(file, 'garbage');
  await host.reload();
  assert.equal(await allows(host), false);
  writeFileSync(file, await compileOrders(t, {}, 1));
  await host.reload();
  assert.equal(await allows(host), true);
});

test('a server has ten seconds; what it gives is refused once bundles come from elsewhere', async (t) => {
  const clock = new ManualClock();
  const host = await openHost(t, await compileOrders(t), { clock });
  await host.moveTo({ source: { name: 'https://a.example' }, maxAgeMs: 60_000 });
  assert.deepEqual([host.active?.sequence, host.isMoving, host.stale], [7, true, undefined]);
  clock.advance(MOVE_LIMIT_MS - 1);
  assert.equal(host.status().active?.sequence, 7);
  clock.advance(1);
  assert.equal(host.status().active, undefined);
  assert.equal(await host.offer(await compileOrders(t, {}, 2)), 'active');
  host.confirm();
  assert.equal(await allows(host), true);
  const late = host.offer(await compileOrders(t, {}, 5));
  const moved = host.moveTo({ source: { name: 'https://b.example' } });
  assert.equal(await late, 'refused');
  await moved;
  assert.equal(host.status().active?.sequence, 2);
  assert.equal(await host.offer(Buffer.from('garbage')), 'refused');
  assert.equal(host.status().active, undefined, 'it was heard and has no good one');
});

test('the last good bundle of the source before a restart takes over while its server is silent', async (t) => {
  const stateDir = scratch(t);
  const first = await openHost(t, undefined, { source: { name: 'https://a.example' }, stateDir });
  await first.offer(await compileOrders(t, {}, 4));
  await first.close();
  const host = await openHost(t, await compileOrders(t), { stateDir });
  await host.moveTo({ source: { name: 'https://a.example' } });
  assert.deepEqual([host.active?.sequence, host.isMoving], [4, false]);
});
