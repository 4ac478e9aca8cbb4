import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { buildBundle, checkPolicies, diagnosticText, SHIPPED_POLICIES } from '../../src/policy/index.ts';
import { ORDERS, policyDirectory, sallyport, scratch, testOpa } from './support.ts';

test('the shipped policies and the orders fixture have no findings', async (t) => {
  const opa = await testOpa();
  assert.deepEqual((await checkPolicies(SHIPPED_POLICIES, opa)).map(diagnosticText), []);
  assert.deepEqual((await checkPolicies(policyDirectory(t, {}, ORDERS), opa)).map(diagnosticText), []);
});

const head = 'package sallyport.allow\n\n';
const rule = (custom: string, body = 'input.target.port == 1'): string =>
  `${head}# METADATA\n# title: A rule\n# custom: ${custom}\nstream["x"] contains rego.metadata.rule() if ${body}\n`;

const cases: Readonly<Record<string, readonly [Readonly<Record<string, string>>, RegExp]>> = {
  'a rule without metadata': [
    { 'sallyport/allow/x.rego': `${head}stream["x"] contains {"custom": {}} if input.v == 1\n` },
    /^sallyport\/allow\/x\.rego:3:1: stream rule has no METADATA .*\(rule-metadata\)$/,
  ],
  'a rule without an id': [
    { 'sallyport/allow/x.rego': rule('{owner: o, expires: never}') },
    /^sallyport\/allow\/x\.rego:6:1: rule has no literal id \(rule-id\)$/,
  ],
  'a rule without an owner': [
    { 'sallyport/allow/x.rego': rule('{id: a, expires: never}') },
    /x\.rego:6:1: rule has no owner \(rule-owner\)$/,
  ],
  'a rule without an expiry': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o}') },
    /x\.rego:6:1: rule has no expires; .*\(rule-expiry\)$/,
  ],
  'a malformed expiry': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: "31.12.2027"}') },
    /x\.rego:6:1: expires "31\.12\.2027" is neither .*\(rule-expiry\)$/,
  ],
  'an id used twice': [
    {
      'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never}'),
      'sallyport/allow/y.rego': rule('{id: a, owner: o, expires: never}'),
    },
    /y\.rego:6:1: id 'a' is already used at sallyport\/allow\/x\.rego:6 \(rule-id\)$/,
  ],
  'a mapped network': [
    {
      'sallyport/allow/x.rego': rule(
        '{id: a, owner: o, expires: never}',
        'net.cidr_contains("::ffff:10.0.0.0/104", input.target.address)',
      ),
    },
    /x\.rego:6:\d+: ipv4-mapped networks are refused; .*\(mapped-cidr\)$/,
  ],
  sprintf: [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never}', 'sprintf("%d", [1]) == "1"') },
    /x\.rego:6:\d+: sprintf does not run inside wasm; .*\(no-sprintf\)$/,
  ],
  'a builtin of the host': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never}', 'time.now_ns() > 0') },
    /x\.rego:6:\d+: .*time\.now_ns.*\(opa\)$/,
  ],
  'an unknown input field': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never}', 'input.key.princpal == "a"') },
    /x\.rego:6:\d+: .*undefined ref.*\(opa\)$/s,
  ],
  'a syntax error': [{ 'sallyport/allow/x.rego': `${head}stream[\n` }, /x\.rego:\d+:\d+: .*\(opa\)$/s],
  'a test that does not compile': [
    { 'sallyport/allow/x_test.rego': 'package sallyport.allow_test\n\ntest_x if {\n\ta := 1\n\ta := 2\n}\n' },
    /^sallyport\/allow\/x_test\.rego:5:2: .*assigned above \(opa\)$/,
  ],
  'a library package behind a text that looks like another': [
    { 'sallyport/allow/x.rego': 'package\n\tsallyport.guard\n\nx := `\npackage sallyport.allow\n`\n' },
    /x\.rego:1:1: package '' belongs to the library; .*\(library\)$/,
  ],
  'rego outside of the policy root': [
    { 'other/x.rego': 'package sallyport.guard\n\nforbidden := set()\n' },
    /^other\/x\.rego:1:1: package 'sallyport\.guard' belongs to the library; .*\(library\)$/,
  ],
  'an allow-list outside of the policy root': [
    { 'x.rego': `${head}x := 1\n` },
    /^x\.rego:1:1: rego outside of 'sallyport\/' would be compiled with it; .*\(library\)$/,
  ],
  'a file that opa leaves out because of its folder': [
    { 'sallyport/allow/dist/x.rego': `${head}deny["*"] contains {} if true\n` },
    /^sallyport\/allow\/dist\/x\.rego:1:1: opa leaves out .*\(library\)$/,
  ],
  'an unformatted file': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never}', 'input.v==1') },
    /x\.rego:1:1: file is not formatted; .*\(fmt\)$/,
  ],
  'a foreign file in a library package': [
    { 'sallyport/allow/x.rego': 'package sallyport.guard\n\nforbidden := {"10.0.0.0/8"}\n' },
    /x\.rego:1:1: package 'sallyport\.guard' belongs to the library; .*\(library\)$/,
  ],
  'a changed library file': [
    { 'sallyport/guard/guard.rego': 'package sallyport.guard\n\ndeny := set()\n' },
    /^sallyport\/guard\/guard\.rego:1:1: library file differs from the shipped one \(library\)$/,
  ],
  'wrong grants': [
    { 'sallyport/grants/data.yaml': 'c: {p: [{id: a}]}\n' },
    /^sallyport\/grants\/data\.yaml:1:1: grant c\.p\.0\.\w+: .*\(grants\)$/,
  ],
  'a malformed vector': [
    { 'vectors/x.yaml': '- name: a\n' },
    /^vectors\/x\.yaml:1:3: vector 1: input: .*\(vectors\)$/,
  ],
};

for (const [what, [files, expected]] of Object.entries(cases)) {
  test(`check finds ${what} and says where`, async (t) => {
    const found = (await checkPolicies(policyDirectory(t, files), await testOpa())).map(diagnosticText);
    assert.ok(
      found.some((line) => expected.test(line)),
      found.join('\n') || 'no findings',
    );
  });
}

test('a bundle is not built over a changed library or a foreign file', async (t) => {
  const directory = policyDirectory(t, {
    'sallyport/allow/x.rego': 'package sallyport.verdict\n\nallowed := true\n',
  });
  await assert.rejects(buildBundle(directory, undefined, { opa: await testOpa(), sequence: 1 }), {
    code: 'ERR_POLICY_SOURCE',
  });
  const odd = policyDirectory(t);
  await assert.rejects(buildBundle(odd, undefined, { opa: await testOpa() }), /sequence/);
  await assert.rejects(buildBundle(join(odd, 'absent'), undefined, { opa: await testOpa() }), {
    code: 'ERR_POLICY_SOURCE',
  });
});

test('the commands: build writes the bundle, check exits 1 on findings, without opa both exit 3', async (t) => {
  const opa = await testOpa();
  const directory = policyDirectory(t, {}, ORDERS);
  const file = join(scratch(t), 'bundle.tar.gz');
  const built = sallyport(['--json', 'policy', 'build', directory, '-o', file, '--sequence', '9'], {
    SALLYPORT_OPA: opa,
  });
  assert.equal(built.status, 0, built.stderr);
  assert.deepEqual(
    { ...(JSON.parse(built.stdout) as object), bytes: 0 },
    {
      file,
      bytes: 0,
      sequence: 9,
      revision: 'orders',
      rules: 4,
      vectors: 11,
    },
  );
  assert.ok(readFileSync(file).length > 0);
  assert.equal(sallyport(['policy', 'check', directory], { SALLYPORT_OPA: opa }).status, 0);
  const bad = policyDirectory(t, { 'sallyport/allow/x.rego': rule('{owner: o, expires: never}') });
  const checked = sallyport(['policy', 'check', bad], { SALLYPORT_OPA: opa });
  assert.equal(checked.status, 1, checked.stderr);
  assert.match(checked.stdout, /^sallyport\/allow\/x\.rego:6:1: /m);
  const missing = sallyport(['policy', 'build', directory, '-o', file], {
    SALLYPORT_OPA: '/nonexistent/opa',
  });
  assert.equal(missing.status, 3, missing.stderr);
  assert.match(missing.stderr, /ERR_POLICY_OPA_MISSING/);
  assert.match(missing.stderr, /build-policy-tools/);
  assert.doesNotMatch(missing.stderr, /\n\s+at /);
  const usage = sallyport(['policy', 'build', directory, '-o', file, '--sequence', '0'], {
    SALLYPORT_OPA: opa,
  });
  assert.equal(usage.status, 2, usage.stderr);
});
