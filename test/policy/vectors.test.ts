import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { acceptBundle } from '../../src/policy/bundle/acceptance.ts';
import { readBundle } from '../../src/policy/bundle/bundle.ts';
import { ENTRYPOINT } from '../../src/policy/engine/messages.ts';
import { EnginePool } from '../../src/policy/engine/pool.ts';
import { parseResult } from '../../src/policy/engine/result.ts';
import { IGNORE_ARGS } from '../../src/policy/tool/sources.ts';
import { readVectors } from '../../src/policy/tool/vectors.ts';
import { buildBundle, DEFAULT_BUNDLE_FILE, SHIPPED_POLICIES } from '../../src/policy/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { ORDERS, policyDirectory, scratch, testOpa } from './support.ts';

/** What OPA's own evaluator says of an input, over the sources. */
const evaluateByOpa = (opa: string, directory: string, input: unknown, file: string): unknown => {
  writeFileSync(file, JSON.stringify(input));
  const { action } = input as { action: keyof typeof ENTRYPOINT };
  const query = `data.${ENTRYPOINT[action].replaceAll('/', '.')}`;
  const args = ['eval', '-f', 'json', '-i', file, '-b', '.', ...IGNORE_ARGS, query];
  const { stdout } = spawnSync(opa, args, { cwd: directory, encoding: 'utf8' });
  const { result } = JSON.parse(stdout) as { result?: { expressions: { value: unknown }[] }[] };
  return result?.map(({ expressions }) => ({ result: expressions[0]?.value })) ?? [];
};

const openEngine = async (t: TestContext, bytes: Buffer): Promise<EnginePool> => {
  const { module, dataText } = await readBundle(bytes);
  const engine = await EnginePool.open(
    { module, dataText },
    { clock: systemClock, budgetMs: 5_000, openWaitMs: 20_000 },
  );
  t.after(() => engine.close());
  return engine;
};

const bothEngines = async (t: TestContext, directory: string): Promise<void> => {
  const opa = await testOpa();
  const { bytes } = await buildBundle(directory, undefined, { opa, sequence: 1 });
  const engine = await openEngine(t, bytes);
  const vectors = readVectors(directory).map(({ vector }) => vector);
  assert.ok(vectors.length > 5);
  for (const { name, input } of vectors) {
    const byOpa = parseResult(evaluateByOpa(opa, directory, input, join(scratch(t), 'input.json')));
    assert.ok(byOpa.ok, name);
    const request = { action: input.action, input: JSON.stringify(input), addresses: [input.target.address] };
    const outcome = await engine.evaluate(request, 'vector', 'open');
    assert.ok(outcome.kind === 'verdicts', name);
    assert.deepEqual(outcome.verdicts, [byOpa.verdict], name);
  }
  await acceptBundle(engine, await readBundle(bytes));
};

test('both engines give the same answer to every vector of the shipped policies', async (t) => {
  const directory = scratch(t);
  cpSync(SHIPPED_POLICIES, directory, { recursive: true });
  await bothEngines(t, directory);
});

test('both engines give the same answer to every vector of an allow-list with grants', async (t) => {
  await bothEngines(t, policyDirectory(t, {}, ORDERS));
});

test("the library's own Rego tests pass", async (t) => {
  const directory = policyDirectory(t, {}, ORDERS);
  const args = ['test', '.', '--ignore', 'vectors', '--format', 'json', '-b'];
  const { status, stdout } = spawnSync(await testOpa(), args, { cwd: directory, encoding: 'utf8' });
  const results = JSON.parse(stdout) as { name: string; fail?: boolean; error?: unknown }[];
  assert.deepEqual(
    results.filter(({ fail, error }) => fail === true || error !== undefined),
    [],
  );
  assert.equal(status, 0);
  assert.ok(results.length >= 15);
});

test('the committed default bundle is what its sources give, byte for byte', async () => {
  const { bytes } = await buildBundle(SHIPPED_POLICIES, undefined, { opa: await testOpa() });
  assert.ok(
    bytes.equals(readFileSync(DEFAULT_BUNDLE_FILE)),
    "run 'node tools/check-default-bundle.mjs --write'",
  );
});

test('a bundle is the same wherever it is built, and holds no test', async (t) => {
  const opa = await testOpa();
  const one = await buildBundle(policyDirectory(t, {}, ORDERS), undefined, { opa });
  const two = await buildBundle(policyDirectory(t, {}, ORDERS), undefined, { opa });
  assert.ok(one.bytes.equals(two.bytes));
  assert.equal(one.sequence, 7);
  assert.equal(one.revision, 'orders');
  const bundle = await readBundle(one.bytes);
  assert.equal(bundle.vectors.length, 11);
  assert.deepEqual(
    bundle.catalog.map(({ id, action, connection, owner, ticket, expires }) => [
      id,
      action,
      connection,
      owner,
      ticket,
      expires,
    ]),
    [
      ['orders-publish', 'publish', 'orders-db', 'dba@example.com', 'SEC-41', 'never'],
      ['orders-app', 'stream', 'orders-db', 'payments@example.com', 'SEC-42', '2027-03-31T00:00:00Z'],
      ['no-ssh', 'deny', '*', 'netsec@example.com', undefined, undefined],
      ['day-cap', 'limits', '*', 'netsec@example.com', undefined, undefined],
    ],
  );
  assert.ok(!one.bytes.includes('allow_test'));
});
