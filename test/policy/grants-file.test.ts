import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { decide, type PolicyHost } from '../../src/policy/index.ts';
import { compileOrders, keyOf, openGuard, openHost, ORDERS, scratch, streamInput } from './support.ts';

const REPORTING = streamInput({ key: keyOf('reporting') });
const GRANTS = readFileSync(join(ORDERS, 'sallyport/grants/data.yaml'), 'utf8');
const NONE = `package sallyport.allow

# METADATA
# title: Nobody
# custom: {id: nobody, owner: o}
deny["*"] contains rego.metadata.rule()
`;
/** It opens what a vector of the bundle expects to be denied: an address elsewhere, no source. */
const TOO_MUCH =
  'orders-db: {orders-app: [{id: x, owner: o, expires: never, target: {host: sql01.corp.example, port: 1433}}]}';
const LATER = `package sallyport.allow

# METADATA
# title: Reports end at noon
# custom: {id: no-afternoons, owner: o}
deny["orders-db"] contains rego.metadata.rule() if {
	input.key.principal == "orders-app"
	input.time.local.hour >= 23
}
`;

const isAllowed = async (host: PolicyHost): Promise<boolean> =>
  (await decide(host, REPORTING, openGuard)).allow;

test('whom a vector expects to be allowed can be taken out of the grants file, and stays out after a restart', async (t) => {
  const dataFile = join(scratch(t), 'grants.yaml');
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  writeFileSync(dataFile, GRANTS);
  const bundle = await compileOrders(t);
  const host = await openHost(t, bundle, { dataFile, bundleFile });
  assert.equal(await isAllowed(host), true);
  writeFileSync(dataFile, '{}');
  await host.reload();
  assert.equal(await isAllowed(host), false);
  assert.equal(host.status().grantsRejected, undefined);
  const again = await openHost(t, bundle, { dataFile, bundleFile });
  assert.deepEqual([again.active?.sequence, await isAllowed(again)], [7, false]);
});

test('grants that open what a vector expects to be denied are refused by themselves', async (t) => {
  const dataFile = join(scratch(t), 'grants.yaml');
  writeFileSync(dataFile, GRANTS);
  const host = await openHost(t, await compileOrders(t), { dataFile });
  const { generation } = host;
  writeFileSync(dataFile, TOO_MUCH);
  await host.reload();
  const { grantsRejected, rejected } = host.status();
  assert.equal(rejected, undefined);
  assert.equal(grantsRejected?.code, 'ERR_POLICY_GRANTS');
  assert.match(grantsRejected.message, /vector '.+' expects a denial, .* 'x' allows it; .*still has access/);
  assert.equal(host.generation, generation);
  writeFileSync(dataFile, GRANTS);
  await host.reload();
  assert.equal(host.status().grantsRejected, undefined);
});

test('what is taken out of the grants file does not wait for a bundle that is refused, damaged or held', async (t) => {
  const closing = await compileOrders(
    t,
    { 'sallyport/allow/none.rego': NONE, 'vectors/orders.yaml': '[]' },
    8,
  );
  const failing = await compileOrders(t, { 'sallyport/allow/none.rego': NONE }, 8);
  const good = await compileOrders(t);
  for (const [what, bytes] of [
    ['refused', failing],
    ['damaged', Buffer.from('x')],
    ['held', closing],
  ] as const) {
    const dataFile = join(scratch(t), 'grants.yaml');
    const bundleFile = join(scratch(t), 'bundle.tar.gz');
    writeFileSync(dataFile, GRANTS);
    const host = await openHost(t, good, { dataFile, bundleFile });
    host.reviewBy((candidate) =>
      Promise.resolve({ live: 20, wouldClose: 20, isHeld: candidate.active?.sequence === 8 }),
    );
    writeFileSync(bundleFile, bytes);
    writeFileSync(dataFile, '{}');
    await host.reload();
    const { active, held, rejected } = host.status();
    assert.deepEqual([active?.sequence, await isAllowed(host)], [7, false], what);
    assert.equal(what === 'held' ? held?.sequence === 8 : rejected !== undefined, true, what);
  }
});

test('a bundle and grants that only go together take over together', async (t) => {
  const dataFile = join(scratch(t), 'grants.yaml');
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  writeFileSync(dataFile, GRANTS);
  const host = await openHost(t, await compileOrders(t), { dataFile, bundleFile });
  writeFileSync(bundleFile, await compileOrders(t, { 'vectors/orders.yaml': '[]' }, 8));
  writeFileSync(dataFile, TOO_MUCH);
  await host.reload();
  const { active, grantsRejected } = host.status();
  assert.deepEqual([active?.sequence, grantsRejected, await isAllowed(host)], [8, undefined, false]);
});

test('with a grants file that does not parse, a new bundle takes over with the grants of before', async (t) => {
  const dataFile = join(scratch(t), 'grants.yaml');
  const bundleFile = join(scratch(t), 'bundle.tar.gz');
  writeFileSync(dataFile, GRANTS);
  const host = await openHost(t, await compileOrders(t), { dataFile, bundleFile });
  writeFileSync(dataFile, 'orders-db: [');
  writeFileSync(bundleFile, await compileOrders(t, { 'sallyport/allow/later.rego': LATER }, 8));
  await host.reload();
  const { active, grantsRejected, rejected } = host.status();
  assert.deepEqual([active?.sequence, rejected, await isAllowed(host)], [8, undefined, true]);
  assert.match(grantsRejected?.message ?? '', /grants do not parse/);
});

test('a bundle server is heard whatever the grants file is', async (t) => {
  const dataFile = join(scratch(t), 'grants.yaml');
  writeFileSync(dataFile, GRANTS);
  const source = { name: 'https://bundles.example.com/b' };
  const bytes = await compileOrders(t);
  const host = await openHost(t, undefined, { dataFile, source, maxAgeMs: 3_600_000 });
  assert.equal(await host.offer(bytes), 'active');
  host.confirm(7_200_000);
  assert.notEqual(host.stale, undefined);
  writeFileSync(dataFile, 'orders-db: [');
  assert.equal(await host.offer(bytes), 'active', 'the server gives the bundle that decides');
  assert.notEqual(host.status().grantsRejected, undefined);

  // Of an agent that starts with such a file: what the server gave decides as soon as the file is put right.
  const started = await openHost(t, undefined, { dataFile, source, maxAgeMs: 3_600_000 });
  assert.equal(await started.offer(bytes), 'refused');
  assert.deepEqual([started.active, started.stale], [undefined, undefined]);
  assert.match(
    started.status().grantsRejected?.message ?? '',
    /no bundle decides and every stream is denied$/,
  );
  writeFileSync(dataFile, GRANTS);
  await started.reload();
  assert.equal(await isAllowed(started), true);
});
