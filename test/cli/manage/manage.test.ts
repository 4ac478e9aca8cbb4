import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { apiFixture } from '../../control/api-fixture.ts';
import { liveStateOf } from '../../control/control-fixture.ts';
import { startPostgres, type TestPostgres } from '../../support/postgres.ts';

const BIN = fileURLToPath(new URL('../../../bin/sallyport', import.meta.url));

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

interface Ran {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command line to its end, in an empty directory. */
const runIn = async (
  directory: string,
  args: readonly string[],
  env: Record<string, string>,
  input = '',
): Promise<Ran> => {
  const child = spawn(process.execPath, [BIN, ...args], {
    cwd: directory,
    env: { PATH: process.env['PATH'] ?? '', HOME: directory, ...env },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  child.stdin.end(input);
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, stdout, stderr };
};

const setUp = async (t: TestContext) => {
  const stream = {
    stream_id: '0190a0b0-0000-7000-8000-000000000001',
    connection: 'orders',
    principal: 'defaultSender',
    key_id: 'k_00000000000000000001',
    agent: 'a\u001b[2J',
    gateway: 'g',
    target: 'db.internal:5432',
    opened_at: '2026-01-01T00:00:00.000Z',
    bytes_up: 1,
    bytes_down: 2,
    policy_rule: null,
  };
  const live = liveStateOf({ streamList: [stream], closeStream: async (id) => id === stream.stream_id });
  const fixture = await apiFixture(t, postgres, { live });
  const directory = await mkdtemp(join(tmpdir(), 'sallyport-cli-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const tokenFile = join(directory, 'token');
  await writeFile(tokenFile, `${fixture.api.ownerToken}\n`);
  await chmod(tokenFile, 0o600);
  const env = { SALLYPORT_ADMIN_URL: fixture.api.url, SALLYPORT_ADMIN_TOKEN_FILE: tokenFile };
  const run = (args: readonly string[], input?: string): Promise<Ran> => runIn(directory, args, env, input);
  const json = async (args: readonly string[], input?: string): Promise<unknown> => {
    const ran = await run([...args, '--json'], input);
    assert.equal(ran.code, 0, ran.stderr);
    return JSON.parse(ran.stdout);
  };
  return { ...fixture, directory, run, json, stream };
};

test('the life of a connection by command line', async (t) => {
  const { control, run, json } = await setUp(t);
  control.revocations.onRevoked(() => ({ links: 2, streams: 5 }));
  const made = (await json([
    'connection',
    'create',
    'orders',
    '--target',
    'db.internal:5432',
    '--label',
    'a=b',
  ])) as {
    keys: { key_id: string; auth_rule: string; slot: string; key: string; connection_string: string }[];
  };
  const sender = made.keys.find((key) => key.auth_rule === 'defaultSender' && key.slot === 'primary');
  assert.ok(sender);
  assert.match(
    (await run(['connection', 'list'])).stdout,
    /^NAME +TARGET +LABELS +CREATED\norders +db\.internal:5432 +a=b /,
  );

  const keys = (await json(['key', 'list', '--connection', 'orders'])) as Record<string, unknown>[];
  assert.equal(keys.length, 4);
  assert.deepEqual(Object.keys(keys[0] ?? {}).slice(0, 7), [
    'key_id',
    'connection',
    'auth_rule',
    'slot',
    'claims',
    'state',
    'last_used_at',
  ]);
  const found = (await json(['key', 'find'], sender.connection_string)) as { key_id: string };
  assert.equal(found.key_id, sender.key_id);
  const unknown = await run(['key', 'find', '--json'], 'bm8gc3VjaCBrZXk=');
  assert.equal(unknown.code, 1);

  const rotated = await run([
    'key',
    'rotate',
    'orders/defaultSender',
    '--slot',
    'secondary',
    '--retire-after',
    '24h',
  ]);
  assert.match(rotated.stdout, /SharedAccessKey=.*;EntityPath=orders\n/);
  assert.match(rotated.stdout, /goes on until/);

  const dry = (await json(['key', 'revoke', sender.key_id, '--dry-run'])) as { dry_run: boolean };
  assert.equal(dry.dry_run, true);
  const revoked = (await json([
    'key',
    'revoke',
    '--auth-rule',
    'orders/defaultSender',
    '--slot',
    'primary',
    '--reason',
    'leaked',
  ])) as { ms: number };
  assert.deepEqual(
    { ...revoked, ms: 0 },
    { key_id: sender.key_id, nodes: 1, links: 2, streams: 5, ms: 0, pending: [] },
  );
  assert.match((await run(['revocation', 'list'])).stdout, /leaked/);
  const gone = await run(['connection', 'delete', 'orders']);
  assert.match(gone.stdout, /deleted orders; 4 keys revoked/);
});

test('revoke exits 1 while a node is pending, and names it', async (t) => {
  const { api, run } = await setUp(t);
  const keys = await api.create('orders');
  const ran = await run(['key', 'revoke', keys[0]?.key_id ?? '', '--json']);
  assert.equal(ran.code, 1);
  const result = JSON.parse(ran.stdout) as { pending: { kind: string; name: string }[] };
  assert.deepEqual(
    result.pending.map((one) => [one.kind, one.name]),
    [['node', 'node-1']],
  );
});

test('streams are shown with foreign text escaped, and closed', async (t) => {
  const { run, json, stream } = await setUp(t);
  assert.deepEqual(await json(['stream', 'list']), [stream]);
  const listed = await run(['stream', 'list']);
  assert.ok(listed.stdout.includes('a\\u001b[2J') && !listed.stdout.includes('\u001b'));
  assert.deepEqual(await json(['stream', 'show', stream.stream_id]), stream);
  assert.match((await run(['stream', 'close', stream.stream_id])).stdout, /^closed 0190a0b0/);
});

test('tokens and auth-rules by command line', async (t) => {
  const { api, run, json } = await setUp(t);
  await api.create('orders');
  const made = (await json(['token', 'create', 'ci', '--role', 'auditor', '--expires-after', '30d'])) as {
    id: string;
  };
  assert.match((await run(['token', 'list'])).stdout, new RegExp(`${made.id} +ci +auditor +good`));
  assert.match((await run(['token', 'revoke', made.id])).stdout, /revoked/);
  const rule = (await json(['auth-rule', 'create', 'orders/app-1', '--claims', 'Send,Listen'])) as {
    claims: string[];
  };
  assert.deepEqual(rule.claims, ['Send', 'Listen']);
  assert.match((await run(['auth-rule', 'list', '--connection', 'orders'])).stdout, /orders\/app-1/);
  assert.match((await run(['auth-rule', 'delete', 'orders/app-1'])).stdout, /2 keys revoked/);
});

test('-o puts a connection string into a file for its owner alone, and shows no key', async (t) => {
  const { api, run, json, directory } = await setUp(t);
  await api.create('orders');
  const file = join(directory, 'billing.send');
  const text = async (): Promise<string> => {
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    return await readFile(file, 'utf8');
  };
  const CONNECTION_STRING =
    /^Endpoint=sb:.*;SharedAccessKeyName=billing;SharedAccessKey=.*;EntityPath=orders\n$/;
  await writeFile(file, 'before', { mode: 0o644 });
  const created = await run(['auth-rule', 'create', 'orders/billing', '--claims', 'Send', '-o', file]);
  assert.equal(created.code, 0, created.stderr);
  const first = await text();
  assert.match(first, CONNECTION_STRING);
  assert.ok(!(created.stdout + created.stderr).includes('SharedAccessKey='), created.stdout);
  assert.ok(created.stdout.includes(`primary `) && created.stdout.includes(file));
  const keys = (await json(['key', 'list', '--connection', 'orders'])) as Record<string, unknown>[];
  const primary = keys.find((key) => key['auth_rule'] === 'billing' && key['slot'] === 'primary');
  const found = (await json(['key', 'find'], first)) as { key_id: string };
  assert.equal(found.key_id, primary?.['key_id']);

  const rotated = await json([
    'key',
    'rotate',
    'orders/billing',
    '--slot',
    'secondary',
    '--retire-after',
    '1h',
    '-o',
    file,
  ]);
  assert.ok(!/SharedAccessKey|connection_string|"key":"/.test(JSON.stringify(rotated)));
  assert.notEqual(await text(), first);
  const disclosed = await run(['key', 'disclose', found.key_id, '-o', file]);
  assert.equal(await text(), first);
  assert.ok(!disclosed.stdout.includes('SharedAccessKey='));

  for (const [place, why] of [
    [join(directory, 'none', 'file'), /-o .*file cannot be written: ENOENT/],
    [directory, /cannot be written: it is a directory/],
  ] as const) {
    const refused = await run(['auth-rule', 'create', 'orders/late', '--claims', 'Send', '-o', place]);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, why);
  }
  const rules = await run(['auth-rule', 'list', '--connection', 'orders']);
  assert.ok(!rules.stdout.includes('orders/late'), 'nothing is made before its key can be kept');
});

test('errors: exit code, one line, no stack trace, no secret', async (t) => {
  const { api, directory, run } = await setUp(t);
  const cases: [readonly string[], number, RegExp][] = [
    [
      ['connection', 'show', 'nowhere'],
      1,
      /no connection "nowhere" \(404 not_found\) \(ERR_MANAGE_REFUSED\)/,
    ],
    [['connection', 'create', 'UPPER', '--target', 'h:1'], 2, /is not a connection name/],
    [['connection', 'create', 'x', '--target', 'h'], 2, /not HOST:PORT/],
    [['key', 'rotate', 'orders', '--slot', 'primary'], 2, /not CONNECTION\/NAME/],
    [['key', 'rotate', 'orders/x', '--slot', 'primary', '--retire-after', 'soon'], 2, /not a time such as/],
    [['key', 'revoke'], 2, /give a key id/],
    [['connection', 'list', '--admin', 'ftp://x'], 2, /not an http or https URL/],
    [['connection', 'list', '--admin', 'http://127.0.0.1:1'], 3, /ECONNREFUSED|bad port/],
    [['connection', 'list', '--token-file', join(directory, 'none')], 2, /cannot read the token file/],
  ];
  for (const [args, code, pattern] of cases) {
    const ran = await run(args);
    assert.equal(ran.code, code, `${args.join(' ')}: ${ran.stderr}`);
    assert.match(ran.stderr, pattern);
    assert.ok(!/\n\s+at /.test(ran.stderr), 'a stack trace');
    assert.ok(!ran.stderr.includes(api.ownerToken));
  }
  const nowhere = await runIn(directory, ['connection', 'list'], {});
  assert.equal(nowhere.code, 2);
  assert.match(nowhere.stderr, /where is the management API/);
});

test('apply makes it as the file says, once; keys go to files of their own', async (t) => {
  const { run, json, directory } = await setUp(t);
  const file = join(directory, 'shop.yaml');
  const declare = (target: string): Promise<void> =>
    writeFile(
      file,
      `connections:\n  - name: orders\n    target: ${target}\n    labels: {team: a}\n    auth_rules:\n      - {name: billing, claims: [Send]}\n`,
    );
  await declare('db.internal:5432');
  const dry = await run(['apply', '-f', file, '--dry-run']);
  assert.equal(dry.code, 1);
  assert.match(
    dry.stdout,
    /^\+ connection orders {2}target db\.internal:5432; labels team=a\n\+ auth-rule orders\/billing {2}claims Send\n$/,
  );
  assert.deepEqual(await json(['connection', 'list']), []);
  const nowhere = await run(['apply', '-f', file, '--keys-dir', join(file, 'below')]);
  assert.equal(nowhere.code, 2);
  assert.match(nowhere.stderr, /--keys-dir .* cannot be written: ENOTDIR/);
  assert.deepEqual(await json(['connection', 'list']), [], 'nothing is made before its keys can be kept');
  const made = await run(['apply', '-f', file, '--keys-dir', join(directory, 'keys')]);
  assert.equal(made.code, 0, made.stderr);
  assert.deepEqual((await readdir(join(directory, 'keys'))).sort(), [
    'orders.billing.primary',
    'orders.billing.secondary',
    'orders.defaultListener.primary',
    'orders.defaultListener.secondary',
    'orders.defaultSender.primary',
    'orders.defaultSender.secondary',
  ]);
  const secret = await readFile(join(directory, 'keys', 'orders.billing.primary'), 'utf8');
  assert.match(secret, /^Endpoint=sb:\/\/.*SharedAccessKeyName=billing;/);
  assert.equal((await stat(join(directory, 'keys', 'orders.billing.primary'))).mode & 0o777, 0o600);
  assert.ok(!made.stdout.includes('SharedAccessKey'));
  assert.match((await run(['apply', '-f', file])).stdout, /^nothing to change\n$/);
  await declare('db2.internal:5432');
  assert.deepEqual(await json(['apply', '-f', file]), {
    applied: true,
    changes: [
      {
        kind: 'update',
        what: 'connection',
        name: 'orders',
        detail: 'target: db.internal:5432 → db2.internal:5432',
      },
    ],
    conflicts: [],
  });
  await writeFile(file, 'connections:\n  - name: orders\n    target: 5\n    lables: {}\n');
  const wrong = await run(['apply', '-f', file]);
  assert.equal(wrong.code, 2);
  assert.match(wrong.stderr, /shop\.yaml:4:5.*did you mean labels\?/);
});

test('an apply that fails half-way says what it made and where it stopped', async (t) => {
  const { run, json, directory, api } = await setUp(t);
  const file = join(directory, 'half.yaml');
  await writeFile(
    file,
    'connections:\n  - {name: first, target: "db.internal:1"}\n  - {name: namespace, target: "db.internal:2"}\n' +
      'auth_rules:\n  - {name: fleet, claims: [Send]}\n',
  );
  const ran = await run(['apply', '-f', file, '--json']);
  assert.equal(ran.code, 2, 'the name is refused as invalid');
  assert.match(ran.stderr, /1 of 3 changes were made; \+ connection namespace/);
  const first = {
    kind: 'create',
    what: 'connection',
    name: 'first',
    detail: 'target db.internal:1; labels (none)',
  };
  assert.deepEqual(JSON.parse(ran.stdout), {
    applied: false,
    changes: [first],
    failed: { ...first, name: 'namespace', detail: 'target db.internal:2; labels (none)' },
    conflicts: [],
  });
  assert.equal(((await json(['connection', 'list'])) as object[]).length, 1);
  await writeFile(
    file,
    'connections:\n  - {name: first, target: "db.internal:1"}\nauth_rules:\n  - {name: fleet, claims: [Send]}\n',
  );
  const again = await run(['apply', '-f', file]);
  assert.match(again.stdout, /^\+ auth-rule namespace\/fleet {2}claims Send\n/);
  assert.equal((await api.call('get', '/auth-rules/namespace/fleet')).status, 200);
  const stale = await run(['auth-rule', 'delete', 'namespace/fleet', '--if-version', '7']);
  assert.equal(stale.code, 1);
  assert.match(stale.stderr, /is at version 1, not 7 \(412 version_mismatch\)/);
  assert.equal((await run(['auth-rule', 'delete', 'namespace/fleet', '--if-version', 'x'])).code, 2);
});
