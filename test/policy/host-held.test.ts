import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { decide, type HeldBundle, type PolicyHost } from '../../src/policy/index.ts';
import { compileOrders, openGuard, openHost, scratch, streamInput } from './support.ts';

const NONE = `package sallyport.allow

# METADATA
# title: Nobody
# custom: {id: nobody, owner: o}
deny["*"] contains rego.metadata.rule()
`;

const closing = (t: TestContext, sequence = 8): Promise<Buffer> =>
  compileOrders(t, { 'sallyport/allow/none.rego': NONE, 'vectors/orders.yaml': '[]' }, sequence);

/** A host with the orders bundle that holds whatever would deny the one stream that is live. */
const open = async (
  t: TestContext,
): Promise<{ host: PolicyHost; held: HeldBundle[]; bundleFile: string; good: Buffer; stateDir: string }> => {
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  const stateDir = scratch(t);
  const good = await compileOrders(t);
  const host = await openHost(t, good, { bundleFile, stateDir });
  host.reviewBy(async (candidate) => {
    const { allow, bundle } = await decide(candidate, streamInput(), openGuard, 'recheck');
    assert.notEqual(bundle?.sha256, host.active?.sha256, 'it is the candidate that is asked');
    return { live: 1, wouldClose: allow ? 0 : 1, isHeld: !allow };
  });
  const held: HeldBundle[] = [];
  host.onHeld((one) => held.push(one));
  return { host, held, bundleFile, good, stateDir };
};

test('an activation that would close too much is held: the old bundle decides until somebody confirms it', async (t) => {
  const { host, held, bundleFile } = await open(t);
  const { active, generation } = host;
  writeFileSync(bundleFile, await closing(t));
  await host.reload();
  const shown = host.status().held;
  assert.deepEqual([shown?.sequence, shown?.wouldClose, shown?.live], [8, 1, 1]);
  assert.deepEqual(held, [shown]);
  assert.equal(host.active, active);
  assert.equal(host.generation, generation);
  assert.equal((await decide(host, streamInput(), openGuard)).allow, true);
  await host.reload();
  assert.equal(held.length, 1, 'the same held again is no news');
  assert.equal(await host.activateHeld('another'), false);
  assert.equal(host.active, active);
  assert.equal(await host.activateHeld(shown?.id ?? ''), true);
  assert.deepEqual([host.status().held, host.status().active?.sequence], [undefined, 8]);
  assert.equal((await decide(host, streamInput(), openGuard)).allow, false);
  assert.equal(host.generation, generation + 1);
  assert.equal(await host.activateHeld(shown?.id ?? ''), false, 'it is held no longer');
});

test('what is held gives way to what came after it', async (t) => {
  const { host, bundleFile, good } = await open(t);
  writeFileSync(bundleFile, await closing(t));
  await host.reload();
  const first = host.status().held?.id ?? '';
  writeFileSync(bundleFile, await closing(t, 9));
  await host.reload();
  assert.equal(host.status().held?.sequence, 9);
  assert.equal(await host.activateHeld(first), false, 'a confirmation is for what was looked at');
  writeFileSync(bundleFile, good);
  await host.reload();
  assert.equal(host.status().held, undefined, 'the active one is back in its place');
  writeFileSync(bundleFile, await closing(t, 9));
  await host.reload();
  writeFileSync(bundleFile, await compileOrders(t, {}, 10));
  await host.reload();
  assert.deepEqual([host.status().held, host.status().active?.sequence], [undefined, 10]);
});

test('a held bundle is not the last good one, and a refused one leaves it held', async (t) => {
  const { host, bundleFile, stateDir } = await open(t);
  writeFileSync(bundleFile, await closing(t));
  await host.reload();
  writeFileSync(bundleFile, 'corrupt');
  await host.reload();
  assert.equal(host.status().rejected?.code, 'ERR_POLICY_ARCHIVE');
  assert.equal(host.status().held?.sequence, 8);
  await host.close();
  const again = await openHost(t, undefined, { bundleFile, stateDir });
  assert.equal(again.status().active?.sequence, 7);
});

test('what is confirmed is counted again, and activated even where that fails', async (t) => {
  const { host, bundleFile } = await open(t);
  writeFileSync(bundleFile, await closing(t));
  await host.reload();
  const first = host.status().held;
  host.reviewBy(() => Promise.resolve({ live: 5, wouldClose: 3, isHeld: true }));
  assert.equal(await host.activateHeld(first?.id ?? ''), true);
  const { confirmed } = host.status();
  assert.deepEqual([confirmed?.id, confirmed?.counted], [first?.id, { live: 5, wouldClose: 3 }]);
  assert.equal(confirmed?.held.id, first?.id);
  writeFileSync(bundleFile, await closing(t, 9));
  await host.reload();
  const second = host.status().held?.id ?? '';
  host.reviewBy(() => Promise.reject(new Error('no review')));
  assert.equal(await host.activateHeld(second), true);
  assert.deepEqual([host.status().active?.sequence, host.status().confirmed?.counted], [9, undefined]);
  host.reviewBy(() => Promise.resolve({ live: 1, wouldClose: 0, isHeld: false }));
  writeFileSync(bundleFile, await closing(t, 10));
  await host.reload();
  assert.deepEqual([host.status().active?.sequence, host.status().confirmed], [10, undefined]);
});

test('an activation whose review fails is refused', async (t) => {
  const { host, bundleFile } = await open(t);
  host.reviewBy(() => Promise.reject(new Error('no review')));
  writeFileSync(bundleFile, await closing(t));
  await host.reload();
  assert.match(host.status().rejected?.message ?? '', /no review/);
  assert.equal(host.status().active?.sequence, 7);
});

test('grants from a file are held as a bundle is', async (t) => {
  const { host } = await open(t);
  await host.close();
  const dataFile = join(scratch(t), 'data.yaml');
  writeFileSync(dataFile, '{}');
  const withGrants = await openHost(t, await compileOrders(t, { 'vectors/orders.yaml': '[]' }), { dataFile });
  withGrants.reviewBy(() => Promise.resolve({ live: 20, wouldClose: 20, isHeld: true }));
  const { generation } = withGrants;
  writeFileSync(dataFile, 'orders-db: {}');
  await withGrants.reload();
  const { held, active } = withGrants.status();
  assert.equal(held?.sha256, active?.sha256);
  assert.notEqual(held?.id, held?.sha256);
  assert.equal(withGrants.generation, generation);
  assert.equal(await withGrants.activateHeld(held?.id ?? ''), true);
  assert.equal(withGrants.generation, generation + 1);
});
