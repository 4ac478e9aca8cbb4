import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HANDOVER_MS, HANDOVER_PAUSE_MS } from '../../src/gateway/handover.ts';
import { asLink, credential, makeRig, turns, waiterFor, withLink } from './pool-rig.ts';

const DEADLINE_MS = 30_000;

test('a node that goes away keeps its link in use until there is one elsewhere', async () => {
  const rig = makeRig();
  const old = await withLink(rig, 'n1', 'n2');
  rig.stuck.add('n2');
  rig.pool.onNodeLeaving('n1', DEADLINE_MS);
  await turns();
  assert.equal(rig.requests.at(-1)?.node, 'n2', 'the node that goes is not asked');
  rig.clock.advance(500);
  assert.equal(rig.pool.pick()?.id, old.id);
  assert.equal(old.retiredWith, undefined);
  rig.thaw('n2');
  await turns();
  assert.deepEqual(old.retiredWith, { reason: 'relay_shutdown', deadlineMs: DEADLINE_MS - 500 });
  assert.equal(rig.pool.pick()?.node, 'n2');
});

test('new streams prefer a link that stays', async () => {
  const rig = makeRig();
  const old = await withLink(rig, 'n1', 'n2');
  rig.stuck.add('n2');
  rig.pool.onNodeLeaving('n1', DEADLINE_MS);
  const waiter = waiterFor();
  rig.pool.wait(waiter);
  assert.equal(rig.pool.pick()?.id, old.id);
  rig.thaw('n2');
  await turns();
  assert.equal(waiter.link?.node, 'n2');
});

test('with a link elsewhere, or with nowhere to look for one, the old one is left at once', async () => {
  const covered = makeRig();
  covered.agents = ['a1', 'a2'];
  const first = await withLink(covered, 'n1', 'n2');
  covered.pool.pick();
  await turns();
  assert.deepEqual(
    covered.links.map(({ node }) => node),
    ['n1', 'n2'],
  );
  covered.pool.onNodeLeaving('n1', DEADLINE_MS);
  assert.deepEqual(first.retiredWith, { reason: 'relay_shutdown', deadlineMs: DEADLINE_MS });

  const alone = makeRig();
  const only = await withLink(alone, 'n1');
  alone.pool.onNodeLeaving('n1', DEADLINE_MS);
  assert.deepEqual(only.retiredWith, { reason: 'relay_shutdown', deadlineMs: DEADLINE_MS });
});

test('a search elsewhere that fails is repeated, and the old link is left in time for its streams', async () => {
  for (const [deadlineMs, leftAfterMs] of [
    [30_000, HANDOVER_MS],
    [3_000, 1_500],
  ] as const) {
    const rig = makeRig();
    const old = await withLink(rig, 'n1', 'n2');
    rig.refusal = { code: 'no_agent', detail: 'not linked yet' };
    rig.pool.onNodeLeaving('n1', deadlineMs);
    await turns();
    const asked = rig.requests.length;
    rig.clock.advance(HANDOVER_PAUSE_MS);
    await turns();
    assert.equal(rig.requests.length, asked + 1);
    rig.clock.advance(leftAfterMs - HANDOVER_PAUSE_MS - 1);
    assert.equal(rig.pool.pick()?.id, old.id);
    rig.clock.advance(1);
    assert.deepEqual(old.retiredWith, { reason: 'relay_shutdown', deadlineMs: deadlineMs - leftAfterMs });
    await turns();
    const last = rig.requests.length;
    rig.clock.advance(HANDOVER_PAUSE_MS);
    await turns();
    assert.equal(rig.requests.length, last, 'nobody wants a link any more');
  }
});

test('a link that comes up over a node that goes away is left as well', async () => {
  const rig = makeRig();
  rig.pool.onAttached('n1', credential);
  rig.stuck.add('n1');
  const waiter = waiterFor();
  rig.pool.wait(waiter);
  await turns();
  rig.choice.leaving('n1', DEADLINE_MS);
  rig.pool.onNodeLeaving('n1', DEADLINE_MS);
  rig.pool.onAttached('n2', credential);
  rig.stuck.add('n2');
  rig.thaw('n1');
  await turns();
  assert.equal(waiter.link?.node, 'n1', 'who waited has it');
  const [old] = rig.links;
  assert.ok(old?.isOpenable);
  rig.thaw('n2');
  await turns();
  assert.equal(old.retiredWith?.reason, 'relay_shutdown');
  assert.equal(rig.pool.pick()?.node, 'n2');
});

test('a link whose other end left first is not waited for', async () => {
  const rig = makeRig();
  const old = await withLink(rig, 'n1', 'n2');
  rig.stuck.add('n2');
  old.isOpenable = false;
  rig.pool.onNodeLeaving('n1', DEADLINE_MS);
  assert.equal(old.retiredWith?.reason, 'relay_shutdown');
});

test('a pool that closes leaves everything and looks no further', async () => {
  const rig = makeRig();
  const old = await withLink(rig, 'n1', 'n2');
  rig.refusal = { code: 'no_agent', detail: 'none' };
  rig.pool.onNodeLeaving('n1', DEADLINE_MS);
  await turns();
  rig.pool.close();
  await turns();
  assert.equal(old.retiredWith?.reason, 'relay_shutdown');
  const asked = rig.requests.length;
  rig.clock.advance(DEADLINE_MS);
  await turns();
  assert.equal(rig.requests.length, asked);
  assert.equal(asLink(old).isOpenable, false);
});
