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

const grantText = (more: string): string =>
  `# one grant
c:
  p:
    - id: g
      owner: o
      expires: "never"
      target: {host: h, port: 1}
      ${more}
`;
const vectorText =
  '- {name: v, input: {action: stream, target: {address: 192.0.2.1}}, expect: {allow: false}}\n';

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
    /^sallyport\/grants\/data\.yaml:1:9: grant c\.p\.0\.owner: .*\(grants\)$/,
  ],
  'a rule that does not yield its metadata': [
    {
      'sallyport/allow/x.rego': `${head}# METADATA\n# title: A rule\n# custom: {id: a, owner: o}\ndeny.x contains {"custom": {"id": "b"}}\n`,
    },
    /x\.rego:6:1: deny rule does not yield its own metadata: .*\(rule-metadata\)$/,
  ],
  'a mapped network in another form': [
    {
      'sallyport/allow/x.rego': rule(
        '{id: a, owner: o, expires: never}',
        'net.cidr_contains(`0:0:0:0:0:ffff:c000:200/120`, input.target.address)',
      ),
    },
    /x\.rego:6:64: ipv4-mapped networks are refused; .*\(mapped-cidr\)$/,
  ],
  'a mapped network in grants': [
    { 'sallyport/grants/data.yaml': grantText('sources: ["0:0:0:0:0:FFFF::/96"]') },
    /^sallyport\/grants\/data\.yaml:8:17: grant c\.p\.0\.sources\.0: ipv4-mapped .*\(grants\)$/,
  ],
  'a source that is no network': [
    { 'sallyport/grants/data.yaml': grantText('sources: [10.0.0.0/8, 203.0.113.9]') },
    /^sallyport\/grants\/data\.yaml:8:29: source '203\.0\.113\.9' is no network; .*\(grant-source\)$/,
  ],
  'a malformed end of a grant': [
    { 'sallyport/grants/data.yaml': grantText('title: t').replace('never', '2027-02-31') },
    /^sallyport\/grants\/data\.yaml:6:16: expires "2027-02-31" is neither .*\(grant-expiry\)$/,
  ],
  'an id that a rule and a grant have': [
    {
      'sallyport/grants/data.yaml': grantText('title: t'),
      'sallyport/allow/x.rego': rule('{id: g, owner: o, expires: never}'),
    },
    /^sallyport\/grants\/data\.yaml:4:11: id 'g' is already used by sallyport\/allow\/x\.rego:6 \(grant-id\)$/,
  ],
  'an unknown key of a grant in json': [
    {
      'sallyport/grants/data.json':
        '{"c": {"p": [\n  {"id": "g", "owner": "o", "expires": "never", "target": {"host": "h", "port": 1},\n   "until": 1}]}}',
    },
    /^sallyport\/grants\/data\.json:2:3: grant c\.p\.0: .*until.*\(grants\)$/,
  ],
  'grants that are no yaml': [
    { 'sallyport/grants/data.yaml': 'c:\n  p: [{id: a}\n' },
    /^sallyport\/grants\/data\.yaml:\d:\d+: .*\(grants\)$/,
  ],
  'two vectors of one name': [
    {
      'vectors/a.yaml': vectorText,
      'vectors/b.yaml': `# another\n${vectorText}`,
    },
    /^vectors\/b\.yaml:2:3: vector 'v' is already at vectors\/a\.yaml:1 \(vector-name\)$/,
  ],
  'a vector that no agent would send': [
    {
      'vectors/a.yaml': `- name: v\n  input:\n    action: stream\n    target: {address: 192.0.2.1}\n    key:\n      princpal: x\n  expect: {allow: false}\n`,
    },
    /^vectors\/a\.yaml:6:7: vector 'v': input\.key: Additional property princpal is not allowed \(vector-input\)$/,
  ],
  'a publish rule that pins no target': [
    {
      'sallyport/allow/x.rego': rule(
        '{id: a, owner: o, expires: never}',
        'input.connection.labels.env == "test"',
      ).replace('stream[', 'publish['),
    },
    /x\.rego:6:1: warning: rule looks at connection\.labels: it rests on what the relay alone says; pin the target .*\(relay-vouched\)$/,
  ],
  'a stream rule that names a source only, through a value of its own': [
    {
      'sallyport/allow/x.rego':
        `${rule('{id: a, owner: o, expires: never}', 'near')}\nnear if request.from_any({"10.0.0.0/8"})\n`.replace(
          head,
          `${head}import data.sallyport.request\n\n`,
        ),
    },
    /x\.rego:8:1: warning: rule looks at source\.address: .*name who may .*\(relay-vouched\)$/,
  ],
  'a rule that believes what a gateway claims': [
    {
      'sallyport/allow/x.rego': rule(
        '{id: a, owner: o, expires: never}',
        'input.source.claimed.label == "payroll"',
      ),
    },
    /x\.rego:6:1: warning: input\.source\.claimed is what the gateway says .*\(claimed-only\)$/,
  ],
  'patterns over a list': [
    {
      'sallyport/allow/x.rego': `${head}patterns := {"a.*", "b.*"}\n\n# METADATA\n# title: A rule\n# custom: {id: a, owner: o, expires: never}\nstream.x contains rego.metadata.rule() if {\n\tsome pattern in patterns\n\tregex.match(pattern, input.key.principal)\n}\n`,
    },
    /x\.rego:10:2: warning: regex over a list costs 13 to 21 .*\(pattern-list\)$/,
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
  const hidden = {
    'outside of the root': { 'other/x.rego': 'package sallyport.guard\n\nforbidden := set()\n' },
    'a folder that opa leaves out': {
      'sallyport/allow/dist/x.rego': `${head}deny["*"] contains {} if true\n`,
    },
    'a package over two lines': {
      'sallyport/allow/x.rego': 'package\n\tsallyport.guard\n\nx := `\npackage sallyport.allow\n`\n',
    },
  };
  for (const [what, files] of Object.entries(hidden)) {
    const built = buildBundle(policyDirectory(t, files), undefined, { opa: await testOpa(), sequence: 1 });
    await assert.rejects(built, { code: 'ERR_POLICY_SOURCE' }, what);
  }
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

test('what is in order is not warned of', async (t) => {
  const body = (name: string, text: string, action = 'stream'): string =>
    `# METADATA\n# title: ${name}\n# custom: {id: ${name}, owner: o, expires: never}\n${action}["x"] contains rego.metadata.rule() if ${text}\n\n`;
  const rules = [
    body('one', 'input.key.principal == "a"'),
    body('two', 'request.target_is("h", 1)', 'publish'),
    body('three', 'here', 'publish'),
    'here if input.agent.labels.site == "a"\n\n',
    body('four', 'regex.match(`^a.*$`, input.key.principal)'),
    // What it looks at cannot be told: nothing is claimed of it.
    body('five', 'object.get(input, ["source", "address"], "") == "10.0.0.1"'),
    // Texts and comments are no conditions.
    body('six', 'input.key.principal == "sprintf(::ffff" # regex.match(x, y)'),
  ];
  const files = {
    'sallyport/allow/x.rego': `${head}import data.sallyport.request\n\n${rules.join('').trimEnd()}\n`,
    'sallyport/grants/data.yaml': grantText('sources: [10.0.0.0/8, "2001:db8::/32"]'),
  };
  const found = await checkPolicies(policyDirectory(t, files), await testOpa());
  assert.deepEqual(
    found.filter(({ rule: name }) => name !== 'fmt' && !name.startsWith('regal')).map(diagnosticText),
    [],
  );
});

test('warnings do not fail a check; a missing regal is said', async (t) => {
  const env = { SALLYPORT_OPA: await testOpa() };
  const warned = policyDirectory(
    t,
    {
      'sallyport/allow/claimed.rego': `${head}# METADATA
# title: Believes the gateway
# custom: {id: claimed, owner: o@example.com, expires: never}
stream["orders-db"] contains rego.metadata.rule() if input.source.claimed.label == "payroll"
`,
    },
    ORDERS,
  );
  const run = sallyport(['policy', 'check', warned], env);
  assert.equal(run.status, 0, run.stdout);
  assert.match(run.stdout, /claimed\.rego:6:1: warning: .*\(claimed-only\)$/m);
  assert.doesNotMatch(run.stderr, /regal was not found/);
  const without = { ...env, SALLYPORT_REGAL: '/nonexistent/regal' };
  const json = sallyport(['--json', 'policy', 'check', warned], without);
  assert.equal(json.status, 0);
  const { ok, regal, findings } = JSON.parse(json.stdout) as {
    ok: boolean;
    regal: boolean;
    findings: { severity?: string }[];
  };
  assert.deepEqual([ok, regal, findings.map(({ severity }) => severity)], [true, false, ['warning']]);
  assert.match(sallyport(['policy', 'check', warned], without).stderr, /regal was not found/);
});
