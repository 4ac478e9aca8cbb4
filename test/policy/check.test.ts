import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
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
    /^sallyport\/grants\/data\.json:3:13: grant c\.p\.0\.until: unknown key "until"; known here: .*\(grants\)$/,
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
  'a rule of a set that there is not': [
    {
      'sallyport/allow/x.rego': rule('{id: a, owner: o}').replace('stream["x"]', 'denies["*"]'),
    },
    /^sallyport\/allow\/x\.rego:6:1: 'denies' is no rule set: .*never counts; did you mean deny\? \(rule-set\)$/,
  ],
  'a rule of a set that there is not, with metadata of its own': [
    {
      'sallyport/allow/x.rego': rule('{id: a, owner: o}')
        .replace('stream["x"]', 'forbid["x"]')
        .replace('rego.metadata.rule()', '{"custom": {"id": "a"}}'),
    },
    /x\.rego:6:1: 'forbid' is no rule set: .*known here: publish, stream, deny, limits \(rule-set\)$/,
  ],
  'a refusal of no connection': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o}').replace('stream["x"]', 'deny') },
    /x\.rego:6:1: deny rule names no connection, so it never counts: .*deny\["\*"\] \(rule-head\)$/,
  ],
  'a rule for every connection where there is none': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never}').replace('"x"', '"*"') },
    /x\.rego:6:1: stream\["\*"\] never counts: "\*" is for deny and limits; .*\(rule-head\)$/,
  ],
  'a head with more than a connection': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o}').replace('stream["x"]', 'deny.x.y') },
    /x\.rego:6:1: deny rule has more than a connection in its head, .*\(rule-head\)$/,
  ],
  'an unknown limit': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never, limits: {max_second: 3}}') },
    /x\.rego:6:1: limits\.max_second is no limit; did you mean max_seconds\? \(rule-limits\)$/,
  ],
  'a limit that is near no other': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never, limits: {bandwidth: 3}}') },
    /x\.rego:6:1: limits\.bandwidth is no limit; known here: max_seconds, .*\(rule-limits\)$/,
  ],
  'a limit that is no whole number': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never, limits: {max_seconds: 1h}}') },
    /x\.rego:6:1: limits\.max_seconds is "1h", and must be a positive whole number \(rule-limits\)$/,
  ],
  'limits that are no mapping': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never, limits: 60}') },
    /x\.rego:6:1: limits 60 is no mapping .*\(rule-limits\)$/,
  ],
  'a limits rule that bounds nothing': [
    {
      'sallyport/allow/x.rego': rule('{id: a, owner: o, limit: {max_seconds: 3}}').replace(
        'stream',
        'limits',
      ),
    },
    /x\.rego:6:1: limits rule bounds nothing: .*\(rule-limits\)$/,
  ],
  'a key of custom that misses its name': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never, limit: {max_seconds: 3}}') },
    /x\.rego:6:1: 'limit' in custom means nothing; did you mean limits\?; notes of your own begin with x_ \(rule-custom\)$/,
  ],
  'a limit that stands in custom itself': [
    { 'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never, max_seconds: 3, x_note: mine}') },
    /x\.rego:6:1: 'max_seconds' in custom means nothing; known here: id, owner, ticket, expires, limits; .*\(rule-custom\)$/,
  ],
  'a stream rule of a connection that nothing publishes': [
    {
      'sallyport/allow/x.rego': rule('{id: a, owner: o, expires: never}').replace('"x"', '"ordres"'),
      'sallyport/allow/y.rego': rule('{id: b, owner: o, expires: never}').replace(
        'stream["x"]',
        'publish.orders',
      ),
    },
    /x\.rego:6:1: warning: no publish rule is for connection 'ordres', so no stream to it can open; did you mean orders\? \(connection\)$/,
  ],
  'grants of a connection that nothing publishes': [
    { 'sallyport/grants/data.yaml': grantText('title: t') },
    /^sallyport\/grants\/data\.yaml:3:3: warning: no publish rule is for connection 'c', so no grant .*\(connection\)$/,
  ],
  'a folder beside the one of the vectors': [
    { 'vector/a.yaml': vectorText, 'vector/b.yaml': vectorText },
    /^vector\/a\.yaml:1:1: warning: vector\/a\.yaml is not read, nor is one more of vector\/: did you mean vectors\/\? \(unread\)$/,
  ],
  'vectors in a folder of their folder': [
    { 'vectors/more/a.yaml': vectorText },
    /^vectors\/more\/a\.yaml:1:1: warning: .* is not read: vectors are vectors\/\*\.yaml, .*\(unread\)$/,
  ],
  'data that opa does not load': [
    { 'sallyport/grants/orders.yaml': grantText('title: t') },
    /^sallyport\/grants\/orders\.yaml:1:1: warning: .* is not read: data is read from files named data\.yaml .*\(unread\)$/,
  ],
  'an unknown key of a vector': [
    { 'vectors/x.yaml': vectorText.replace('expect: {', 'expect: {rules: a, ') },
    /^vectors\/x\.yaml:1:\d+: vector 1: expect\.rules: unknown key "rules"; did you mean rule\? \(vectors\)$/,
  ],
  'grants that lack what must be there': [
    { 'sallyport/grants/data.yaml': grantText('title: t').replace('owner: o', 'source: [10.0.0.0/8]') },
    /^sallyport\/grants\/data\.yaml:\d+:\d+: grant c\.p\.0\.source: unknown key "source"; did you mean sources\? \(grants\)$/,
  ],
  'a malformed vector': [
    { 'vectors/x.yaml': '- name: a\n' },
    /^vectors\/x\.yaml:1:3: vector 1: input: is missing \(expected: object\) \(vectors\)$/,
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
      sha256: createHash('sha256').update(readFileSync(file)).digest('hex'),
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
  assert.match(
    missing.stderr,
    /needs OPA \d.*; SALLYPORT_OPA names \/nonexistent\/opa, which is no OPA that runs/,
  );
  assert.doesNotMatch(missing.stderr, /\n\s+at /);
  const usage = sallyport(['policy', 'build', directory, '-o', file, '--sequence', '0'], {
    SALLYPORT_OPA: opa,
  });
  assert.equal(usage.status, 2, usage.stderr);
});

test('build refuses what check refuses, and test says it', async (t) => {
  const env = { SALLYPORT_OPA: await testOpa(), SALLYPORT_REGAL: '/nonexistent/regal' };
  const bad: Readonly<Record<string, readonly [string, RegExp]>> = {
    'an undefined reference': [
      rule('{id: a, owner: o, expires: never}', 'input.key.principle == "a"').replace('"x"', '"orders-db"'),
      /x\.rego:6:\d+: .*undefined ref/,
    ],
    'no owner': [
      rule('{id: a, expires: never}').replace('"x"', '"orders-db"'),
      /x\.rego:6:1: rule has no owner/,
    ],
    'no expiry': [
      rule('{id: a, owner: o}').replace('"x"', '"orders-db"'),
      /x\.rego:6:1: rule has no expires/,
    ],
    'a refusal that nothing asks': [
      rule('{id: a, owner: o}').replace('stream["x"]', 'denies["*"]'),
      /x\.rego:6:1: 'denies' is no rule set/,
    ],
  };
  for (const [what, [text, finding]] of Object.entries(bad)) {
    const directory = policyDirectory(t, { 'sallyport/allow/x.rego': text }, ORDERS);
    const file = join(scratch(t), 'bundle.tar.gz');
    const built = sallyport(['policy', 'build', directory, '-o', file], env);
    assert.equal(built.status, 2, what);
    assert.match(built.stderr, /is not built: 'policy check' refuses it/, what);
    assert.match(built.stderr, finding, what);
    assert.ok(!existsSync(file), what);
    const tested = sallyport(['policy', 'test', directory], env);
    assert.equal(tested.status, 0, tested.stderr);
    assert.match(tested.stderr, finding, what);
    assert.match(tested.stderr, /'policy check' and 'policy build' refuse this directory/, what);
  }
  const warned = policyDirectory(t, { 'vector/x.yaml': '[]\n' }, ORDERS);
  const file = join(scratch(t), 'bundle.tar.gz');
  const built = sallyport(['policy', 'build', warned, '-o', file], env);
  assert.equal(built.status, 0, built.stderr);
  assert.match(built.stderr, /vector\/x\.yaml:1:1: warning: .* did you mean vectors\/\?/);
  assert.match(
    built.stdout,
    /^sha256 [0-9a-f]{64}, not signed; signing gives it another\n {2}.* policy sign /m,
  );
  assert.match(sallyport(['policy', 'test', warned], env).stderr, /vector\/x\.yaml:1:1: warning: /);
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
    'sallyport/grants/data.yaml': grantText('sources: [10.0.0.0/8, "2001:db8::/32"]').replace('c:', 'x:'),
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
