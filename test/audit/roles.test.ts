import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import {
  ensureImporterRole,
  ensureReaderRole,
  ensureRetentionRole,
  ensureVerifierRole,
  migrate,
  openAuditKey,
} from '../../src/audit/index.ts';
import { leafHash, merkleRoot } from '../../src/audit/seal/merkle.ts';
import { signSeal } from '../../src/audit/seal/seal.ts';
import { ensureRelayRole } from '../../src/control/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { auditDatabase, onDatabase, rowsOf, streamId, TEST_PASSWORD, urlAs } from './audit-fixture.ts';
import { GRANTS, type Grants } from './role-grants.ts';

const CONTROL = fileURLToPath(new URL('../../migrations/control', import.meta.url));
const REFUSED = '42501';

/** A login of each role. */
const LOGINS: Readonly<Record<string, string>> = {
  audit_ingest: 'writer_1',
  audit_import: 'importer_1',
  audit_read: 'reader_1',
  audit_verify: 'verifier_1',
  audit_retention: 'retention_1',
  control_relay: 'relay_1',
};

let server: TestPostgres;
let owner: string;
before(async () => {
  server = await startPostgres();
  ({ owner } = await auditDatabase(server));
  await migrate({ databaseUrl: owner, schema: 'control', directory: CONTROL, roles: true });
  await ensureImporterRole(owner, 'importer_1', TEST_PASSWORD, 'elsewhere');
  await ensureReaderRole(owner, 'reader_1', TEST_PASSWORD);
  await ensureVerifierRole(owner, 'verifier_1', TEST_PASSWORD);
  await ensureRetentionRole(owner, 'retention_1', TEST_PASSWORD);
  await ensureRelayRole(owner, 'relay_1', TEST_PASSWORD);
  // Partitions that were not there when grants were made.
  await rowsOf(owner, 'select audit.partitions_ahead(20)');
});
after(() => server.stop());

interface Relation {
  readonly name: string;
  readonly view: boolean;
  /** Its first column. */
  readonly column: string;
}

const relations = async (): Promise<Relation[]> => {
  const rows = await rowsOf(
    owner,
    `select n.nspname || '.' || c.relname as name, c.relkind = 'v' as view,
       (select quote_ident(a.attname) from pg_attribute as a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attidentity = '' order by a.attnum limit 1) as column
     from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname in ('audit', 'control') and c.relkind in ('r', 'p', 'v') order by 1`,
  );
  return rows as Relation[];
};

/** A call of each function with nulls, by its name. */
const calls = async (): Promise<{ name: string; call: string }[]> => {
  const rows = await rowsOf(
    owner,
    `select n.nspname || '.' || p.proname as name,
       format('select %I.%I(%s)', n.nspname, p.proname,
         (select string_agg('null::' || format_type(t, null), ', ' order by at)
          from unnest(p.proargtypes) with ordinality as a (t, at))) as call
     from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
     where n.nspname in ('audit', 'control') order by 1`,
  );
  return rows as { name: string; call: string }[];
};

/** Tries a statement and takes it back; the SQLSTATE, or undefined when it was done. */
const attempt = async (client: pg.Client, sql: string): Promise<string | undefined> => {
  await client.query('begin');
  try {
    await client.query(sql);
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code ?? 'no code';
  } finally {
    await client.query('rollback');
  }
};

/** Statements that are grants' to allow, by privilege. */
const byPrivilege = (r: Relation): [keyof Grants, string][] => [
  ['select', `select * from ${r.name} limit 1`],
  ['select', `copy (select * from ${r.name} limit 1) to stdout`],
  ['insert', `insert into ${r.name} (${r.column}) select null where false`],
  ['update', `update ${r.name} set ${r.column} = ${r.column} where false`],
  ['delete', `delete from ${r.name} where false`],
];

/** Statements that no role may do to anything. */
const forbidden = ({ name, view, column }: Relation): string[] =>
  view
    ? [
        `drop view ${name}`,
        `alter view ${name} rename to x`,
        `alter view ${name} owner to current_user`,
        `comment on view ${name} is 'x'`,
      ]
    : [
        `truncate ${name}`,
        `drop table ${name} cascade`,
        `alter table ${name} disable trigger all`,
        `alter table ${name} add column x integer`,
        `alter table ${name} drop column ${column}`,
        `alter table ${name} rename to x`,
        `alter table ${name} owner to current_user`,
        `alter table ${name} set unlogged`,
        `alter table ${name} enable row level security`,
        `create index on ${name} (${column})`,
        `create trigger x before insert on ${name} execute function suppress_redundant_updates_trigger()`,
        `create rule x as on insert to ${name} do instead nothing`,
        `create policy x on ${name}`,
        `comment on table ${name} is 'x'`,
        `create table pg_temp.x (like ${name}); alter table ${name} inherit pg_temp.x`,
      ];

/** Statements about no relation in particular. */
const ELSEWHERE = [
  'create table audit.x (a integer)',
  'create table control.x (a integer)',
  'create table public.x (a integer)',
  'create view audit.x as select 1',
  "create function audit.x() returns integer language sql as 'select 1'",
  "create or replace function audit.details(canonical bytea) returns jsonb language sql as 'select null::jsonb'",
  'drop function audit.refuse_change() cascade',
  'alter function audit.append(text[], bytea, bytea, integer[], timestamptz) owner to current_user',
  'alter function audit.refuse_change() set search_path = public',
  'create schema x',
  'drop schema audit cascade',
  'alter schema audit rename to x',
  'create role x',
  'alter role audit_owner login',
  "set session_replication_role to 'replica'",
  "set local session_replication_role to 'replica'",
  'alter role postgres nosuperuser',
  "copy (select 1) to '/tmp/sallyport-role-test'",
  "copy (select 1) to program 'true'",
  "select pg_read_file('/etc/hostname')",
  "select lo_import('/etc/hostname')",
  'create event trigger x on ddl_command_start execute function audit.refuse_change()',
  'create publication x for all tables',
  `do $$ begin execute 'set local role audit_owner'; end $$`,
  'grant audit_owner to current_user',
  'reassign owned by audit_owner to current_user',
  'drop owned by audit_owner',
];

const ROLES = ['audit_owner', 'control_owner', 'postgres', ...Object.keys(GRANTS)];

for (const [role, login] of Object.entries(LOGINS)) {
  const grants = GRANTS[role] ?? {};

  test(`${role}: each statement on each table, partition and view is refused but those granted`, async () => {
    const wrong: string[] = [];
    await onDatabase(urlAs(owner, login), async (client) => {
      for (const relation of await relations()) {
        for (const [privilege, sql] of byPrivilege(relation)) {
          const code = await attempt(client, sql);
          const allowed = grants[privilege]?.includes(relation.name) === true;
          // A view that cannot be written to says that before it looks at grants.
          const refused =
            code === REFUSED || (relation.view && ['55000', '42809', '0A000'].includes(code ?? ''));
          if (allowed === refused) wrong.push(`${sql}: ${code ?? 'done'}`);
        }
        for (const sql of forbidden(relation)) {
          const code = await attempt(client, sql);
          if (code !== REFUSED) wrong.push(`${sql}: ${code ?? 'done'}`);
        }
      }
    });
    assert.deepEqual(wrong, []);
  });

  test(`${role}: only its own functions can be called, no other role taken, nothing made`, async () => {
    const wrong: string[] = [];
    await onDatabase(urlAs(owner, login), async (client) => {
      for (const { name, call } of await calls()) {
        const refused = (await attempt(client, call)) === REFUSED;
        if (refused === (grants.execute?.includes(name) === true)) wrong.push(call);
      }
      for (const sql of ELSEWHERE) {
        const code = await attempt(client, sql);
        if (code !== REFUSED) wrong.push(`${sql}: ${code ?? 'done'}`);
      }
      for (const other of ROLES.filter((name) => name !== role)) {
        for (const sql of [`set role ${other}`, `set session authorization ${other}`]) {
          const code = await attempt(client, sql);
          if (code !== REFUSED) wrong.push(`${sql}: ${code ?? 'done'}`);
        }
      }
    });
    assert.deepEqual(wrong, []);
  });
}

test('the catalogue says the same: no privilege beyond the list, of no column and to nobody else', async () => {
  const rows = await rowsOf(
    owner,
    // Partitions inherit no grants, columns may have their own.
    `select g.grantee, lower(g.privilege_type) as privilege, g.table_schema || '.' || g.table_name as name
     from (
       select grantee, privilege_type, table_schema, table_name from information_schema.column_privileges
       union select grantee, privilege_type, table_schema, table_name from information_schema.table_privileges
     ) as g
     where g.table_schema in ('audit', 'control') and g.grantee not in ('audit_owner', 'control_owner', 'postgres')`,
  );
  const byColumn = [
    ...['audit.bundle', 'audit.bundle_grants'].map((name) => `audit_read select ${name}`),
    'control_relay update control.outbox',
  ];
  const granted = new Set(
    Object.entries(GRANTS).flatMap(([role, grants]) =>
      (['select', 'insert', 'update', 'delete'] as const).flatMap((privilege) =>
        (grants[privilege] ?? []).map((name) => `${role} ${privilege} ${name}`),
      ),
    ),
  );
  const beyond = rows
    .map((row) => `${row.grantee} ${row.privilege} ${row.name}`)
    .filter((one) => !granted.has(one));
  assert.deepEqual(beyond.sort(), byColumn.sort());
  const columns = await rowsOf(
    owner,
    `select column_name from information_schema.column_privileges
     where grantee = 'audit_read' and table_name in ('bundle', 'bundle_grants') and column_name = 'content'
     union all
     select column_name from information_schema.column_privileges
     where grantee = 'control_relay' and table_name = 'outbox' and privilege_type = 'UPDATE'`,
  );
  assert.deepEqual(columns, [{ column_name: 'drained_at' }]);
});

test('every function with its owner’s rights fixes where names are looked up', async () => {
  const rows = await rowsOf(
    owner,
    `select p.oid::regprocedure::text as name from pg_proc as p
     where p.pronamespace in ('audit'::regnamespace, 'control'::regnamespace) and p.prosecdef
       and not coalesce(p.proconfig, '{}') @> array['search_path=pg_catalog, pg_temp']`,
  );
  assert.deepEqual(rows, []);
});

test('temporary tables and functions of the caller do not shadow what audit.append uses', async (t) => {
  const key = openAuditKey(`${temporaryDirectory(t)}/key.pem`);
  const event = Buffer.from(
    '{"at":"2026-01-02T03:04:05.000Z","data":{},"id":"x","type":"agent.started","v":1}',
  );
  const seal = signSeal(
    {
      v: 1,
      alg: 'Ed25519',
      chain: streamId(501),
      batch: 1,
      first: 1,
      last: 1,
      n: 1,
      dropped: 0,
      root: merkleRoot([leafHash(event)]).toString('hex'),
      prev: null,
      prev_chain: null,
      signer: key.signer,
      time: '2026-01-02T03:04:06.000Z',
      epoch: 1,
      final: false,
    },
    key,
  );
  await onDatabase(urlAs(owner, 'writer_1'), async (client) => {
    for (const table of [
      'event',
      'seal',
      'seal_leaves',
      'chain',
      'signer',
      'upkeep',
      'event_type',
      'pg_class',
    ])
      await client.query(`create temp table ${table} (a integer)`);
    await client.query(
      `create function pg_temp.sha256(bytea) returns bytea language sql as $$ select '\\xdead'::bytea $$;
       create function pg_temp.clock_timestamp() returns timestamptz language sql as $$ select 'epoch'::timestamptz $$;
       create function pg_temp.convert_to(text, name) returns bytea language sql as $$ select '\\xdead'::bytea $$;
       set search_path to pg_temp, audit, pg_catalog`,
    );
    const { rows } = await client.query('select outcome from audit.append($1, $2, $3, $4, now())', [
      [seal.text],
      seal.signature,
      event,
      [event.length],
    ]);
    assert.deepEqual(rows, [{ outcome: 'stored' }]);
  });
  const [stored] = await rowsOf(
    owner,
    `select s.seal, l.leaves, s.recorded_at > now() - interval '1 hour' as fresh
     from audit.seal as s join audit.seal_leaves as l using (chain_id, batch_no) where s.chain_id = $1`,
    [streamId(501)],
  );
  assert.deepEqual(stored, { seal: seal.digest, leaves: leafHash(event), fresh: true });
});
