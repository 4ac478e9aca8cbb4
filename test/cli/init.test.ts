import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { sallyport } from '../support/command.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';

let postgres: TestPostgres;

before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

const rowsOf = async (url: string, sql: string): Promise<unknown[]> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
};

const init = (directory: string, database: string, ...rest: string[]): ReturnType<typeof sallyport> =>
  sallyport(['init', directory, '--publish', 'shop=127.0.0.1:9', '--database', database, ...rest]);

/** What a running deployment depends on: its passwords' hashes, its connections, keys and keyring. */
const belongings = async (database: string): Promise<unknown[]> => [
  await rowsOf(
    postgres.url,
    `select rolname, rolpassword from pg_authid where rolname like 'sallyport%' order by 1`,
  ),
  await rowsOf(database, 'select * from control.connection'),
  await rowsOf(database, 'select * from control.key order by key_id'),
  await rowsOf(database, 'select * from control.token'),
];

const agentLogin = (directory: string): Promise<unknown[]> =>
  rowsOf(readFileSync(join(directory, 'agent-audit-database.url'), 'utf8').trim(), 'select 1 as one');

test('a database in use is refused and left as it is, and so are logins on its server', async (t) => {
  const root = temporaryDirectory(t, 'init');
  const database = await postgres.createDatabase();
  const first = join(root, 'first');
  assert.equal((await init(first, database)).code, 0);
  const before = await belongings(database);

  const again = await init(join(root, 'second'), database);
  assert.equal(again.code, 2);
  assert.match(again.stderr, /another deployment uses this database .*connections \(1\), keys \(6\), login /);
  assert.match(again.stderr, /nothing was changed; give --database another one.*ERR_CLI_DATABASE_USED/s);
  const forced = await init(join(root, 'second'), database, '--replace-logins');
  assert.equal(forced.code, 2, 'connections and keys are never taken over');
  const named = await init(
    join(root, 'second'),
    database,
    '--agent',
    'agent-2',
    '--node',
    'relay-2=localhost',
  );
  assert.equal(named.code, 2);
  assert.ok(!existsSync(join(root, 'second')), 'and it leaves nothing behind');

  const other = await postgres.createDatabase();
  const sameNames = await init(join(root, 'second'), other);
  assert.equal(sameNames.code, 2);
  assert.match(sameNames.stderr, /login sallyport_agent_agent_1, .*--replace-logins/);
  assert.deepEqual(await rowsOf(other, `select to_regclass('control.connection') as there`), [
    { there: null },
  ]);
  const up = await sallyport(['up', '--state', join(root, 'state'), '--database', other]);
  assert.equal(up.code, 2, up.stdout);
  assert.match(up.stderr, /ERR_CLI_DATABASE_USED/);
  assert.deepEqual(await belongings(database), before);
  await agentLogin(first);

  const second = await init(join(root, 'second'), other, '--agent', 'agent-2', '--node', 'relay-2=localhost');
  assert.equal(second.code, 0, second.stderr);
  assert.match(readFileSync(join(root, 'second', 'agent.yaml'), 'utf8'), /^name: agent-2$/m);
  await agentLogin(join(root, 'second'));
  await agentLogin(first);

  const third = await init(join(root, 'third'), await postgres.createDatabase(), '--replace-logins');
  assert.equal(third.code, 0, third.stderr);
  await assert.rejects(agentLogin(first), /password authentication failed/);
});

test('an init that fails leaves no directory, and takes none away that was there', async (t) => {
  const root = temporaryDirectory(t, 'init');
  const there = join(root, 'there');
  mkdirSync(there);
  const database = new URL(await postgres.createDatabase());
  await rowsOf(postgres.url, `create role limited login password 'x'`);
  await rowsOf(postgres.url, `grant all on database ${database.pathname.slice(1)} to limited`);
  database.username = 'limited';
  database.password = 'x';
  for (const directory of [there, join(root, 'a', 'b')]) {
    const refused = await init(directory, database.href, '--agent', 'a', '--node', 'n=localhost');
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /permission denied to create role; .*--no-roles/);
  }
  assert.ok(existsSync(there));
  assert.ok(!existsSync(join(there, 'connections')));
  assert.ok(!existsSync(join(root, 'a')));
});

test('--replace-logins works with createrole, and refuses before anything is migrated what it could not change', async (t) => {
  const root = temporaryDirectory(t, 'init');
  const makers = await startPostgres();
  t.after(() => makers.stop());
  for (const name of ['maker', 'stranger']) {
    await rowsOf(makers.url, `create role ${name} login createrole password 'x'`);
  }
  const databaseOf = async (login: string): Promise<string> => {
    const url = new URL(await makers.createDatabase());
    await rowsOf(makers.url, `alter database ${url.pathname.slice(1)} owner to ${login}`);
    url.username = login;
    url.password = 'x';
    return url.href;
  };
  const first = await init(join(root, 'first'), await databaseOf('maker'));
  assert.equal(first.code, 0, first.stderr);
  const second = await init(join(root, 'second'), await databaseOf('maker'), '--replace-logins');
  assert.equal(second.code, 0, second.stderr);
  await agentLogin(join(root, 'second'));

  const strange = await databaseOf('stranger');
  const refused = await init(join(root, 'third'), strange, '--replace-logins');
  assert.equal(refused.code, 2, refused.stderr);
  assert.match(
    refused.stderr,
    /login stranger cannot use .*sallyport_agent_agent_1.*nothing was changed; give/s,
  );
  assert.deepEqual(await rowsOf(strange, `select to_regclass('audit.seal') as there`), [{ there: null }]);
  await agentLogin(join(root, 'second'));

  const superuser = await makers.createDatabase();
  await rowsOf(makers.url, 'alter role sallyport_agent_agent_1 superuser');
  const mighty = await init(join(root, 'third'), superuser, '--replace-logins');
  assert.equal(mighty.code, 2);
  assert.match(mighty.stderr, /sallyport_agent_agent_1 \(it may more than a login of a deployment\)/);
});

test('relay ports that are given as the default is printed are refused with the way to give them', async (t) => {
  const root = temporaryDirectory(t, 'init');
  const ran = await init(join(root, 'a'), postgres.url, '--relay-port', '5671', '9352');
  assert.equal(ran.code, 2);
  assert.match(ran.stderr, /"9352" came after it.*--relay-port 5671 --relay-port 9352/);
  assert.match(
    (await init(join(root, 'a'), postgres.url, '--relay-port', '70000')).stderr,
    /"70000" is not a port, 1 to 65535/,
  );
});
