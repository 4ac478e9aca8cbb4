import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readArchive } from '../../src/policy/bundle/archive.ts';
import { readBundle } from '../../src/policy/bundle/bundle.ts';
import { ruleSource } from '../../src/policy/tool/rule-source.ts';
import { type BundleDiff, diffBundles } from '../../src/policy/index.ts';
import { compileOrders, ORDERS, sallyport, scratch } from './support.ts';

const rego = readFileSync(join(ORDERS, 'sallyport/allow/orders.rego'), 'utf8');
const vectors = readFileSync(join(ORDERS, 'vectors/orders.yaml'), 'utf8');
const grants = readFileSync(join(ORDERS, 'sallyport/grants/data.yaml'), 'utf8');

test('a bundle against itself differs in nothing', async (t) => {
  const bytes = await compileOrders(t);
  const nothing = { added: [], removed: [], changed: [] };
  const { inputs, answers, rules, grants: granted, files } = await diffBundles(bytes, bytes);
  assert.deepEqual([inputs, answers, rules, granted, files], [11, [], nothing, nothing, []]);
});

test('a narrower rule: what is newly denied, by vector, and the rule that changed, with its owner', async (t) => {
  const before = await compileOrders(t);
  const after = await compileOrders(t, {
    'sallyport/allow/orders.rego': rego
      // A comment moves every line, and is no change of a rule.
      .replace('package sallyport.allow\n', 'package sallyport.allow\n\n# The orders team.\n')
      .replace('working_hours(8, 18)', 'working_hours(8, 11)')
      .replace('payments@example.com', 'orders@example.com'),
  });
  const { answers, rules, files } = await diffBundles(before, after);
  assert.deepEqual(
    answers.map(({ kind, name, of }) => [kind, name, of]),
    [
      ['newly_denied', 'the order app is allowed in working hours', 'both'],
      ['reasons', 'its rule has an end', 'both'],
      ['newly_denied', 'text that is hard to escape changes nothing', 'both'],
    ],
  );
  assert.deepEqual(answers[0]?.a, { allow: true, rule: 'orders-app', reasons: ['allowed_by'] });
  assert.deepEqual(answers[0].b, { allow: false, rule: null, reasons: ['no_rule'] });
  assert.deepEqual([rules.added, rules.removed], [[], []]);
  assert.equal(rules.changed.length, 1);
  assert.equal(rules.changed[0]?.entry.owner, 'orders@example.com');
  assert.deepEqual(
    rules.changed[0].fields.map(({ name }) => name),
    ['owner', 'conditions'],
  );
  assert.deepEqual(files, ['sallyport/allow/orders.rego']);
});

test('rules and grants that come and go, limits that change, and the vectors of either side', async (t) => {
  const before = await compileOrders(t);
  const after = await compileOrders(t, {
    'sallyport/allow/orders.rego': rego
      .replace('id: no-ssh', 'id: no-telnet')
      .replace('input.target.port == 22', 'input.target.port == 23')
      .replace('max_seconds: 36000', 'max_seconds: 60'),
    'sallyport/grants/data.yaml': grants
      .replace('reporting:', 'analytics:')
      .replace('owner: bi@', 'owner: data@'),
    'vectors/orders.yaml': `${vectors}
- name: analytics
  input:
    <<: *stream
    key: {kind: sas, id: k_3, principal: analytics, claims: [Send], proved_by: relay}
  expect: {allow: true}
`,
  });
  const { inputs, answers, rules, grants: granted } = await diffBundles(before, after);
  assert.equal(inputs, 12);
  const kinds = new Map(answers.map(({ name, kind, of }) => [name, `${kind} ${of}`]));
  assert.equal(kinds.get('analytics'), 'newly_allowed b');
  assert.equal(kinds.get('a grant allows'), 'newly_denied both');
  assert.equal(kinds.get('the order app is allowed in working hours'), 'obligations both');
  assert.deepEqual(
    rules.added.map(({ id, owner }) => [id, owner]),
    [['no-telnet', 'netsec@example.com']],
  );
  assert.deepEqual(
    rules.removed.map(({ id }) => id),
    ['no-ssh'],
  );
  assert.deepEqual(rules.changed[0]?.fields, [
    { name: 'limits', a: '{"max_seconds":36000}', b: '{"max_seconds":60}' },
  ]);
  assert.deepEqual(
    [granted.added[0]?.principal, granted.removed[0]?.principal, granted.changed],
    ['analytics', 'reporting', []],
  );
});

test('a bundle that has no verdict for an input denies it', async (t) => {
  const before = await compileOrders(t);
  const after = await compileOrders(t, {
    'sallyport/allow/picked.rego':
      'package sallyport.allow\n\npicked := 1 if input.v == 1\n\npicked := 2 if input.target.port == 1433\n\n# METADATA\n# title: x\n# custom: {id: picking, owner: o@example.com}\ndeny["*"] contains rego.metadata.rule() if picked == 3\n',
  });
  const { answers } = await diffBundles(before, after);
  const denied = answers.filter(({ kind }) => kind === 'newly_denied');
  assert.equal(denied.length, 3);
  assert.ok(denied.every(({ b }) => 'error' in b));
});

test('the command exits by --fail-on', async (t) => {
  const directory = scratch(t);
  const [a, b] = [join(directory, 'a.tar.gz'), join(directory, 'b.tar.gz')];
  writeFileSync(a, await compileOrders(t));
  writeFileSync(
    b,
    await compileOrders(t, {
      'sallyport/allow/orders.rego': rego.replace('working_hours(8, 18)', 'working_hours(8, 11)'),
    }),
  );
  const narrower = sallyport(['policy', 'diff', a, b]);
  assert.equal(narrower.status, 1, narrower.stderr);
  assert.match(
    narrower.stdout,
    /^newly denied +the order app is allowed in working hours +both +allow orders-app +deny no_rule$/m,
  );
  assert.match(
    narrower.stdout,
    /^changed +orders-app +stream orders-db +payments@example\.com +conditions$/m,
  );
  const wider = sallyport(['--json', 'policy', 'diff', b, a]);
  assert.equal(wider.status, 0, wider.stderr);
  const { answers } = JSON.parse(wider.stdout) as BundleDiff;
  assert.ok(answers.some(({ kind }) => kind === 'newly_allowed'));
  const statusOf = (...args: string[]): number | null => sallyport(['policy', 'diff', ...args]).status;
  assert.equal(statusOf(b, a, '--fail-on', 'newly-allowed'), 1);
  assert.equal(statusOf(a, b, '--fail-on', 'never'), 0);
  assert.equal(statusOf(a, a, '--fail-on', 'any'), 0);
  assert.equal(statusOf(a, b, '--fail-on', 'some'), 2);
});

test('the source of each rule of the catalog is found, brackets in texts and comments apart', async (t) => {
  const odd = `package sallyport.allow

# Dropped by OPA when it writes sources anew.

# METADATA
# title: Odd
# description: Brackets where they do not count.
# custom: {id: odd, owner: o@example.com, expires: never, limits: {max_bytes: 5}}
stream.odd contains rego.metadata.rule() if {
	# a bracket that is not closed: {

	input.key.principal == "}{\\"{"
}
`;
  const bytes = await compileOrders(t, { 'sallyport/allow/odd.rego': odd });
  const { catalog } = await readBundle(bytes);
  const files = await readArchive(bytes);
  for (const entry of catalog) {
    const source = ruleSource(files, entry);
    assert.equal(source?.custom['id'], entry.id);
    assert.ok(source.text.startsWith(entry.action));
  }
  const entry = catalog.find(({ id }) => id === 'odd');
  assert.deepEqual(entry && ruleSource(files, entry), {
    text: odd.slice(odd.indexOf('stream.odd')).trimEnd(),
    custom: { id: 'odd', owner: 'o@example.com', expires: 'never', limits: { max_bytes: 5 } },
    description: 'Brackets where they do not count.',
  });
});
