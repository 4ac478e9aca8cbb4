import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { createAuthority, createServerCertificate, systemClock } from '../../src/runtime/index.ts';
import { type CommandResult, sallyport } from '../support/command.ts';
import { freePort } from '../support/free-port.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';

let postgres: TestPostgres;
let authorityPem = '';

/** A server with TLS whose certificate is for localhost, and a login that it takes over TLS only. */
before(async () => {
  postgres = await startPostgres();
  const authority = await createAuthority('test authority', systemClock);
  const server = await createServerCertificate(authority, ['localhost'], systemClock);
  authorityPem = authority.certPem;
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  const write = (text: string, command: string): Promise<unknown> =>
    client.query(
      `copy (select regexp_split_to_table(${client.escapeLiteral(text)}, E'\\n')) to program ${client.escapeLiteral(command)}`,
    );
  await write(server.certPem, 'cat > server.crt');
  await write(server.keyPem, 'umask 077; cat > server.key');
  await write('hostnossl all tls_only all reject', 'cat - pg_hba.conf > hba.new; mv hba.new pg_hba.conf');
  await client.query('alter system set ssl to on');
  await client.query(`create role tls_only login superuser password 'x'`);
  await client.query('select pg_reload_conf()');
  await client.end();
});
after(() => postgres.stop());

const urlOf = (change: (url: URL) => void): string => {
  const url = new URL(postgres.url);
  change(url);
  return url.href;
};

const told = (ran: CommandResult, code: number, text: RegExp): void => {
  assert.equal(ran.code, code, ran.stderr);
  assert.match(ran.stderr, text);
  assert.doesNotMatch(ran.stderr, /test-only-password|PLANTED/);
};

test('what is wrong with the database is a sentence with the way out, for every command', async (t) => {
  const directory = temporaryDirectory(t, 'database');
  writeFileSync(join(directory, 'ca.pem'), authorityPem);
  const closed = await freePort();
  const cases: readonly (readonly [string, string, number, RegExp])[] = [
    [
      'nobody there',
      `postgres://u:PLANTED@127.0.0.1:${closed}/x`,
      3,
      new RegExp(`127\\.0\\.0\\.1:${closed}: it does not answer \\(ECONNREFUSED\\)`),
    ],
    [
      'no authority',
      urlOf((url) => (url.search = 'sslmode=verify-full')),
      2,
      /set sslrootcert=FILE .*\(now: not set\)/,
    ],
    [
      'another name',
      urlOf((url) => {
        url.hostname = '127.0.0.1';
        url.search = 'sslmode=verify-full&sslrootcert=ca.pem';
      }),
      2,
      /is for DNS:localhost, not for 127\.0\.0\.1/,
    ],
    [
      'no TLS',
      urlOf((url) => {
        url.username = 'tls_only';
        url.password = 'x';
      }),
      2,
      /over TLS only \(28000\); add \?sslmode=verify-full/,
    ],
    [
      'no such file',
      urlOf((url) => (url.search = 'sslrootcert=gone.pem')),
      2,
      /cannot read gone\.pem: ENOENT/,
    ],
    [
      'a wrong password',
      urlOf((url) => (url.password = 'PLANTED')),
      2,
      /refuses the password of login "postgres" \(28P01\)/,
    ],
    [
      'no such database',
      urlOf((url) => (url.pathname = '/nowhere')),
      2,
      /database "nowhere" does not exist on .* \(3D000\)/,
    ],
  ];
  for (const [name, url, code, text] of cases) {
    await t.test(name, async () => {
      const cwd = { cwd: directory };
      told(await sallyport(['migrate', '--database', url], cwd), code, text);
      told(await sallyport(['audit', 'query', 'select 1', '--database', url], cwd), code, text);
      const init = ['init', 'new', '--publish', 'a=127.0.0.1:9', '--database', url];
      told(await sallyport(init, cwd), code, text);
    });
  }
});

test('init writes the whole path of what its database URL names, and check looks for it', async (t) => {
  const root = temporaryDirectory(t, 'database');
  const database = new URL(await postgres.createDatabase());
  database.hostname = 'localhost';
  database.search = 'sslmode=verify-full&sslrootcert=ca.pem';
  mkdirSync(join(root, 'here'));
  const authorityFile = join(root, 'here', 'ca.pem');
  writeFileSync(authorityFile, authorityPem);
  const init = ['init', '../new', '--publish', 'a=127.0.0.1:9', '--database', database.href];
  const made = await sallyport(init, { cwd: join(root, 'here') });
  assert.equal(made.code, 0, made.stderr);
  for (const name of ['control-database.url', 'relay-audit-database.url', 'agent-audit-database.url']) {
    const url = new URL(readFileSync(join(root, 'new', name), 'utf8').trim());
    assert.equal(url.searchParams.get('sslrootcert'), authorityFile, name);
    const client = new pg.Client({ connectionString: url.href });
    await client.connect();
    await client.end();
  }
  for (const file of ['relay.yaml', 'agent.yaml']) {
    const ok = await sallyport(['check', '-c', file], { cwd: join(root, 'new') });
    assert.equal(ok.code, 0, ok.stdout);
  }
  writeFileSync(
    join(root, 'new', 'agent-audit-database.url'),
    `postgres://a:b@localhost/x?sslrootcert=${encodeURIComponent('/nowhere/ca.pem')}\n`,
  );
  const gone = await sallyport(['check', '-c', 'agent.yaml'], { cwd: join(root, 'new') });
  assert.equal(gone.code, 2);
  assert.match(
    gone.stdout,
    /agent\.yaml:\d+:\d+: audit\.database_url: .*cannot read \/nowhere\/ca\.pem: ENOENT/,
  );
});

test('audit commands on a database without the schema name the command that makes it', async () => {
  const database = await postgres.createDatabase();
  const commands = [
    ['audit', 'site', 'list'],
    ['audit', 'query', 'denials'],
    ['audit', 'query', 'select * from audit.decisions'],
  ];
  for (const command of commands) {
    const ran = await sallyport([...command, '--database', database]);
    assert.notEqual(ran.code, 0, command.join(' '));
    assert.match(ran.stderr, /sallyport migrate --schema audit --database/, command.join(' '));
  }
});
