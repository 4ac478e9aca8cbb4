import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { differences, type PolicyTestReport, testPolicies } from '../../src/policy/tool/test.ts';
import { locateVectors } from '../../src/policy/tool/vectors.ts';
import { ORDERS, policyDirectory, sallyport, scratch, testOpa, write } from './support.ts';

const vectorsText = readFileSync(join(ORDERS, 'vectors/orders.yaml'), 'utf8');

test('tests and vectors of an allow-list pass, with their coverage', async (t) => {
  const report = await testPolicies(policyDirectory(t, {}, ORDERS), await testOpa());
  assert.equal(report.ok, true, JSON.stringify(report.vectors.filter(({ ok }) => !ok)));
  assert.equal(report.vectors.length, 11);
  assert.deepEqual(report.tests.failures, []);
  assert.ok(report.tests.passed >= 15);
  assert.deepEqual(report.tests.coverage, [
    { file: 'sallyport/allow/orders.rego', percent: 100, notCovered: [] },
  ]);
});

test('a failing vector tells its place, what was expected and what both engines answered', async (t) => {
  const text = vectorsText.replace('rule: orders-app, reasons: [allowed_by]', 'rule: x, reasons: [no_rule]');
  const directory = policyDirectory(t, {}, ORDERS);
  write(directory, { 'vectors/orders.yaml': `# first\n${text}` });
  const env = { SALLYPORT_OPA: await testOpa() };
  const run = sallyport(['policy', 'test', directory], env);
  assert.equal(run.status, 1, run.stderr);
  assert.match(
    run.stdout,
    /^vectors\/orders\.yaml:2:3: 'the order app .*' fails: rule is orders-app; reasons lack no_rule \(vector\)\n {2}expected {2}allow, rule x, no_rule\n {2}wasm {6}allow, rule orders-app, allowed_by\n {2}opa {7}allow, rule orders-app, allowed_by$/m,
  );
  assert.match(run.stdout, /^vectors, wasm and opa +10 +1 +0$/m);
  const json = sallyport(['--json', 'policy', 'test', directory], env);
  assert.equal(json.status, 1);
  const { ok, vectors } = JSON.parse(json.stdout) as PolicyTestReport;
  assert.equal(ok, false);
  const { problems, ...failing } = vectors.find((vector) => !vector.ok) ?? assert.fail('none fails');
  assert.equal(problems.length, 2);
  assert.deepEqual(failing, {
    name: 'the order app is allowed in working hours',
    file: 'vectors/orders.yaml',
    line: 2,
    column: 3,
    ok: false,
    expected: { allow: true, rule: 'x', reasons: ['no_rule'] },
    actual: { allow: true, rule: 'orders-app', reasons: ['allowed_by'] },
    opa: { allow: true, rule: 'orders-app', reasons: ['allowed_by'] },
  });
});

test('a vector that the two engines answer differently fails although one answers as expected', async (t) => {
  // net.cidr_contains: OPA takes a mapped address for the ipv4 one, wasm does not.
  const mapped = `${vectorsText}
- name: a mapped source
  input:
    <<: *stream
    source: {gateway: gw1, gateway_proved: false, address: "::ffff:203.0.113.9"}
  expect: {allow: ALLOW}
`;
  for (const allow of ['true', 'false']) {
    const directory = policyDirectory(t, {}, ORDERS);
    write(directory, { 'vectors/orders.yaml': mapped.replace('ALLOW', allow) });
    const { ok, vectors } = await testPolicies(directory, await testOpa());
    assert.equal(ok, false);
    const report = vectors.at(-1);
    assert.equal(report?.ok, false);
    assert.ok(
      report.problems.some((problem) => problem.startsWith('allow: wasm says ')),
      report.problems.join('\n'),
    );
  }
});

test('answers differ in any field, and when one engine alone has none', () => {
  const verdict = {
    allow: true,
    rule: 'a',
    rules: { publish: ['p'], stream: ['a'] },
    reasons: [],
    obligations: { recheck_seconds: 60 },
    recheck_at: null,
  };
  const one = { ok: true, verdict } as const;
  assert.deepEqual(differences(one, structuredClone(one)), []);
  const other = { ok: true, verdict: { ...verdict, obligations: { recheck_seconds: 61 } } } as const;
  assert.match(differences(one, other).join(), /^obligations: wasm says \{"recheck_seconds":60\}, opa /);
  const none = { ok: false, detail: 'policy_error: undefined result' } as const;
  assert.match(differences(one, none).join(), /^error: wasm says "a verdict", opa policy_error: undefined/);
  assert.match(
    differences(none, one).join(),
    /^error: wasm says policy_error: undefined result, opa "a verdict"/,
  );
  assert.deepEqual(differences(none, { ok: false, detail: 'another' }), []);
});

test('an input whose evaluation fails fails alone, in both engines', async (t) => {
  const conflict = `package sallyport.allow

picked := "a" if input.target.port == 1433

picked := "b" if input.source.address == "198.51.100.77"

# METADATA
# title: Conflicts for one source
# custom: {id: conflicting, owner: o@example.com}
deny["*"] contains rego.metadata.rule() if picked == "c"
`;
  // More of them than open a breaker of the engine, and after them one that is in order.
  const sources = ['one', 'two', 'three', 'four'].map(
    (name) => `
- name: conflict ${name}
  input:
    <<: *stream
    namespace: ${name}.example.com
    source: {gateway: gw1, gateway_proved: false, address: 198.51.100.77}
  expect: {allow: false}
`,
  );
  const last = '\n- name: last\n  input: {<<: *stream, namespace: last}\n  expect: {allow: true}\n';
  const text = `${vectorsText}${sources.join('')}${last}`;
  const directory = policyDirectory(t, { 'sallyport/allow/conflict.rego': conflict }, ORDERS);
  write(directory, { 'vectors/orders.yaml': text });
  const { vectors } = await testPolicies(directory, await testOpa());
  const failing = vectors.filter(({ ok }) => !ok);
  assert.deepEqual(
    failing.map(({ name }) => name),
    ['conflict one', 'conflict two', 'conflict three', 'conflict four'],
  );
  assert.ok('error' in (failing[0]?.actual ?? {}));
  assert.match(JSON.stringify(failing[0]?.opa), /conflict/);
});

test('a failing rego test tells the line that fails, and what no test runs is named', async (t) => {
  const opa = await testOpa();
  const directory = policyDirectory(
    t,
    {
      'sallyport/allow/more_test.rego':
        'package sallyport.allow_test\n\ntest_more if {\n\tx := 1\n\tx == 2\n\tx == 3\n}\n',
    },
    ORDERS,
  );
  const { ok, tests } = await testPolicies(directory, opa);
  assert.equal(ok, false);
  assert.deepEqual(tests.failures, [
    {
      file: 'sallyport/allow/more_test.rego',
      line: 5,
      column: 2,
      rule: 'opa test',
      message: 'test_more fails at this line',
    },
  ]);
  assert.deepEqual(tests.coverage, []);
  write(directory, {
    'sallyport/allow/more_test.rego': 'package sallyport.allow_test\n\ntest_more if true\n',
    'sallyport/allow/more.rego': `package sallyport.allow

# METADATA
# title: Nobody tests it
# custom: {id: more, owner: o@example.com, expires: never}
stream.more contains rego.metadata.rule() if {
	input.target.port == 1
	input.target.port == 2
}
`,
  });
  const { tests: again } = await testPolicies(directory, opa);
  const more = again.coverage.find(({ file }) => file === 'sallyport/allow/more.rego');
  assert.ok((more?.percent ?? 100) < 100);
  assert.ok(more?.notCovered.some(({ from, to }) => from <= 7 && to >= 8));
});

test('neither test nor vector is a failure; sources that do not load are bad usage', async (t) => {
  const env = { SALLYPORT_OPA: await testOpa() };
  const manifest = readFileSync(join(ORDERS, '.manifest'), 'utf8');
  const empty = sallyport(['policy', 'test', policyDirectory(t, { '.manifest': manifest })], env);
  assert.equal(empty.status, 1, empty.stderr);
  assert.match(empty.stderr, /neither a rego test nor a vector/);
  const broken = policyDirectory(t, { 'sallyport/allow/x_test.rego': 'package x\n\ntest_x if {\n' }, ORDERS);
  const run = sallyport(['policy', 'test', broken], env);
  assert.equal(run.status, 2, run.stdout);
  assert.match(run.stderr, /x_test\.rego/);
});

const where = (t: Parameters<typeof scratch>[0], text: string): string[] => {
  const directory = scratch(t);
  write(directory, { 'vectors/x.yaml': text });
  return locateVectors(directory).findings.map(
    ({ line, column, message }) => `${String(line)}:${String(column)} ${message}`,
  );
};

test('what is wrong in a vectors file is found where it stands', (t) => {
  assert.match(where(t, '- name: a\n').join(), /^1:3 vector 1: input: /);
  const input = '{action: stream, target: {address: 192.0.2.1}}';
  const typo = `- name: a\n  input: ${input}\n  expect:\n    allow: 'yes'\n`;
  assert.match(where(t, typo).join(), /^4:12 vector 1: expect\.allow: /);
  assert.match(
    where(t, `- {name: a, input: ${input}, expect: {allow: true, rul: x}}\n`).join(),
    /^1:\d+ vector 1: expect\.rul: unknown key "rul"; did you mean rule\?$/,
  );
  assert.match(where(t, '- name: a\n  input: {a: 1\n').join(), /^\d+:\d+ /);
  assert.match(where(t, '- name: a\n- name: *gone\n').join(), /gone/);
  assert.match(where(t, 'name: a\n').join(), /^1:1 vectors: /);
});

test('many vectors may share one input by merges', (t) => {
  const directory = scratch(t);
  const one = (index: number): string =>
    `- {name: v${String(index)}, input: {<<: *b, x: ${String(index)}}, expect: {allow: false}}\n`;
  const first = `- name: first\n  input: &a {action: stream, target: &t {address: 192.0.2.1}}\n  expect: {allow: false}\n- name: second\n  input: &b {<<: *a, target: *t}\n  expect: {allow: false}\n`;
  const rest = Array.from({ length: 2_000 }, (_, index) => one(index)).join('');
  write(directory, { 'vectors/x.yaml': first + rest });
  const { vectors, findings } = locateVectors(directory);
  assert.deepEqual(findings, []);
  assert.equal(vectors.length, 2_002);
  assert.equal(vectors.at(-1)?.line, 2_006);
});
