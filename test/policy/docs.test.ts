import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { documentBundle, SHIPPED_POLICIES } from '../../src/policy/index.ts';
import { REASON_CODES } from '../../src/policy/reason-codes.ts';
import { LIBRARY_FILES } from '../../src/policy/tool/library.ts';
import { compileOrders, ORDERS, sallyport, scratch, write } from './support.ts';

const codesBy = (by: string): string[] =>
  REASON_CODES.filter((reason) => reason.by === by)
    .map(({ code }) => code)
    .sort();

test('the list of reason codes is what the library says, and what docs/policy.md has', () => {
  const said = new Set<string>();
  for (const file of LIBRARY_FILES) {
    const text = readFileSync(join(SHIPPED_POLICIES, file), 'utf8');
    for (const [, code = ''] of text.matchAll(/"code": "(\w+)"/g)) said.add(code);
    // One code is chosen by a condition.
    for (const [, choice = ''] of text.matchAll(/code := \{([^}]*)\}/g)) {
      for (const [, code = ''] of choice.matchAll(/"(\w+)"/g)) said.add(code);
    }
  }
  assert.deepEqual([...said].sort(), codesBy('library'));
  const page = readFileSync(new URL('../../docs/policy.md', import.meta.url), 'utf8');
  const table = page.slice(page.indexOf('| reason code |'));
  const rows = table.slice(0, table.indexOf('\n\n')).split('\n').slice(2);
  const listed = rows.flatMap((row) =>
    [...(row.split('|')[1] ?? '').matchAll(/`([^`]+)`/g)].map(([, code]) => code),
  );
  assert.deepEqual(listed.sort(), REASON_CODES.map(({ code }) => code).sort());
});

test('a page per rule and per reason code, all found from the index', async (t) => {
  const pages = await documentBundle(await compileOrders(t));
  const index = pages.get('README.md') ?? '';
  for (const name of pages.keys()) {
    if (name !== 'README.md') assert.ok(index.includes(`](${name})`), `${name} is not linked`);
  }
  for (const [, link = ''] of index.matchAll(/\]\(([^)]+)\)/g)) assert.ok(pages.has(link), link);
  assert.equal([...pages.keys()].filter((name) => name.startsWith('rules/')).length, 4);
  assert.equal([...pages.keys()].filter((name) => name.startsWith('reasons/')).length, REASON_CODES.length);
  const rule = pages.get('rules/orders-app.md') ?? '';
  assert.match(rule, /^# The order app writes in working hours$/m);
  assert.match(rule, /^\| owner \| payments@example\.com \|$/m);
  assert.match(rule, /^\| ends \| 2027-03-31T00:00:00Z \|$/m);
  assert.match(rule, /^\| limits \| `max_seconds: 3600`, `recheck_seconds: 60` \|$/m);
  assert.match(rule, /^\| where \| `sallyport\/allow\/orders\.rego:22` \|$/m);
  assert.match(rule, /^```rego\nstream\["orders-db"\] contains[^]*working_hours\(8, 18\)\n\}\n```$/m);
  assert.match(rule, /^- the order app is allowed in working hours$/m);
  assert.match(pages.get('rules/no-ssh.md') ?? '', /^- deny beats allow$/m);
  assert.match(pages.get('reasons/policy-ID.md') ?? '', /\[policy:no-ssh\]\(\.\.\/rules\/no-ssh\.md\)/);
  assert.match(pages.get('grants.md') ?? '', /^\| `orders-db` \| `reporting` \| `orders-reporting` \|/m);
});

test("authors' texts make no markup, and ids no paths", async (t) => {
  const hostile = (id: string, title: string): string => `# METADATA
# title: ${JSON.stringify(title)}
# custom: {id: "${id}", owner: "<b>|o", expires: never}
stream.x contains rego.metadata.rule() if input.target.port == ${String(id.length)}

`;
  const bytes = await compileOrders(t, {
    'sallyport/allow/x.rego': `package sallyport.allow\n\n${hostile('../../up', '<script>| # [a](b)')}${hostile('a/b', 'x')}${hostile('a:b', 'y')}`,
  });
  const pages = await documentBundle(bytes);
  const names = [...pages.keys()];
  assert.ok(
    names.every((name) => /^(\w+\/)?[A-Za-z0-9_-][A-Za-z0-9._-]*\.md$/.test(name)),
    names.join(),
  );
  assert.ok(names.includes('rules/a-b.md') && names.includes('rules/a-b-2.md'));
  const page = pages.get('rules/--..-up.md') ?? assert.fail(names.join());
  assert.match(page, /^# \\<script\\>\\\| \\# \\\[a\\\]\(b\)$/m);
  assert.match(page, /^\| owner \| \\<b\\>\\\|o \|$/m);
});

test('the command replaces its own pages, and touches no other files', async (t) => {
  const directory = scratch(t);
  const bundle = join(directory, 'bundle.tar.gz');
  const out = join(directory, 'pages');
  const run = (): ReturnType<typeof sallyport> => sallyport(['policy', 'docs', bundle, '-o', out]);
  writeFileSync(bundle, await compileOrders(t));
  assert.equal(run().status, 0);
  assert.ok(existsSync(join(out, 'rules/no-ssh.md')));
  const rego = readFileSync(join(ORDERS, 'sallyport/allow/orders.rego'), 'utf8');
  writeFileSync(
    bundle,
    await compileOrders(t, { 'sallyport/allow/orders.rego': rego.replace('id: no-ssh', 'id: no-telnet') }),
  );
  assert.equal(run().status, 0);
  assert.ok(!existsSync(join(out, 'rules/no-ssh.md')) && existsSync(join(out, 'rules/no-telnet.md')));
  const mine = join(directory, 'mine');
  write(mine, { 'README.md': '# Mine\n' });
  const refused = sallyport(['policy', 'docs', bundle, '-o', mine]);
  assert.equal(refused.status, 2, refused.stderr);
  assert.equal(readFileSync(join(mine, 'README.md'), 'utf8'), '# Mine\n');
});
