import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  checkPolicies,
  diagnosticText,
  inspectBundle,
  policyExamples,
  testPolicies,
  writePolicyExample,
} from '../../src/policy/index.ts';
import { acceptBundle } from '../../src/policy/bundle/acceptance.ts';
import { readBundle } from '../../src/policy/bundle/bundle.ts';
import { withEngine } from '../../src/policy/tool/engine.ts';
import { buildBundle } from '../../src/policy/index.ts';
import { sallyport, scratch, testOpa } from './support.ts';

const EXAMPLES = [
  'api-by-network',
  'app-database',
  'contractor',
  'environments',
  'office-hours',
  'ten-thousand-grants',
];

test('there are the examples that the documentation names', () => {
  assert.deepEqual(policyExamples(), EXAMPLES);
  const page = readFileSync(new URL('../../docs/policy.md', import.meta.url), 'utf8');
  for (const name of EXAMPLES) assert.ok(page.includes(`\`${name}\``), name);
});

for (const name of EXAMPLES) {
  test(`example ${name}: no findings, every line tested, both engines agree, an agent would take it`, async (t) => {
    const directory = join(scratch(t), name);
    const opa = await testOpa();
    writePolicyExample(directory, name);
    assert.deepEqual((await checkPolicies(directory, opa)).map(diagnosticText), []);
    const { ok, tests, vectors } = await testPolicies(directory, opa);
    assert.ok(ok, JSON.stringify({ tests, failing: vectors.filter((vector) => !vector.ok) }));
    assert.ok(tests.passed >= 4);
    assert.deepEqual(
      tests.coverage.map(({ percent }) => percent),
      [100],
    );
    // Its own vectors, beside the library's: what is allowed and what is not.
    const own = vectors.filter(({ file }) => file !== 'vectors/library.yaml');
    assert.ok(own.filter(({ expected }) => expected.allow).length >= 2);
    assert.ok(own.filter(({ expected }) => !expected.allow).length >= 2);
    const { bytes } = await buildBundle(directory, undefined, { opa });
    const bundle = await readBundle(bytes);
    // As agents record it: a node's host, where `status` shows its name.
    for (const { name: vector, input } of bundle.vectors.filter(
      ({ input: one }) => one.namespace !== 'vector.invalid',
    ))
      assert.deepEqual(input['relay'], { node: 'relay-1.example.com' }, vector);
    await withEngine(bundle, (engine) => acceptBundle(engine, bundle));
    // Every rule of it is expected by some vector: taking one away, or letting it run out, is seen.
    const said = new Set(own.flatMap(({ expected }) => [expected.rule, ...(expected.reasons ?? [])]));
    for (const { id, action } of bundle.catalog) {
      if (action === 'limits') continue;
      assert.ok(said.has(action === 'deny' ? `policy:${id}` : id), `no vector expects ${id}`);
    }
  });
}

test('ten thousand grants: the script writes them, and the example passes with all of them', async (t) => {
  const directory = join(scratch(t), 'stores');
  const opa = await testOpa();
  writePolicyExample(directory, 'ten-thousand-grants');
  const data = join(directory, 'sallyport/grants/data.json');
  const committed = JSON.parse(readFileSync(data, 'utf8')) as Record<string, Record<string, unknown>>;
  const run = spawnSync(process.execPath, [join(directory, 'grants-of-stores.mjs')], { encoding: 'utf8' });
  assert.equal(run.status, 0, run.stderr);
  const written = JSON.parse(readFileSync(data, 'utf8')) as typeof committed;
  for (const [store, grants] of Object.entries(committed['stock-db'] ?? {})) {
    assert.deepEqual(written['stock-db']?.[store], grants);
  }
  assert.deepEqual(await checkPolicies(directory, opa), []);
  const { ok, vectors } = await testPolicies(directory, opa);
  assert.ok(ok, JSON.stringify(vectors.filter((vector) => !vector.ok)));
  const { bytes } = await buildBundle(directory, undefined, { opa });
  assert.equal((await inspectBundle(bytes)).grants, 10_000);
});

test('an example that is broken is found broken', async (t) => {
  const directory = join(scratch(t), 'office-hours');
  writePolicyExample(directory, 'office-hours');
  const rego = join(directory, 'sallyport/allow/office_hours.rego');
  writeFileSync(rego, readFileSync(rego, 'utf8').replace('working_hours(7, 19)', 'working_hours(7, 20)'));
  const { ok, tests, vectors } = await testPolicies(directory, await testOpa());
  assert.equal(ok, false);
  assert.equal(tests.failed, 1);
  assert.deepEqual(
    vectors.filter((vector) => !vector.ok).map(({ name }) => name),
    ['at seven in the evening it is closed'],
  );
});

test('policy new --example writes one, and refuses an unknown one', (t) => {
  const directory = join(scratch(t), 'policy');
  const made = sallyport(['--json', 'policy', 'new', directory, '--example', 'contractor']);
  assert.equal(made.status, 0, made.stderr);
  assert.deepEqual(JSON.parse(made.stdout), { directory, example: 'contractor' });
  assert.match(readFileSync(join(directory, 'README.md'), 'utf8'), /^# A contractor [^]*## This directory/);
  const unknown = sallyport(['policy', 'new', join(directory, 'x'), '--example', 'none']);
  assert.equal(unknown.status, 2);
  assert.match(unknown.stderr, /there are api-by-network, app-database/);
  assert.equal(
    sallyport(['policy', 'new', join(directory, 'x'), '--example', 'contractor', '--publish', 'a=b:1'])
      .status,
    2,
  );
});
