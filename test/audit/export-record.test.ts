import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  ensureReaderRole,
  ensureVerifierRole,
  exportLines,
  openAuditKey,
  verifyAudit,
} from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { sallyport } from '../support/command.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';
import {
  type AnyRow,
  auditDatabase,
  ending,
  openLog,
  rowsOf,
  TEST_PASSWORD,
  tamper,
  urlAs,
} from './audit-fixture.ts';

const FLUSH_MS = 20_000;
const DEADLINE_MS = 60_000;
const ALL = { from: undefined, to: undefined };

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

interface Place {
  readonly directory: string;
  readonly owner: string;
  readonly writer: string;
  /** As role audit_verify. */
  readonly auditor: string;
}

/** A trail of one event, and an auditor who may read its tables. */
const place = async (t: Closer): Promise<Place> => {
  const directory = temporaryDirectory(t, 'export-record');
  const { owner, writer } = await auditDatabase(server);
  await ensureVerifierRole(owner, 'auditor_1', TEST_PASSWORD);
  const log = await openLog(directory, { database: { url: writer } });
  await log.record(ending(1));
  assert.equal(await log.flush(FLUSH_MS), true);
  await log.close();
  return { directory, owner, writer, auditor: urlAs(owner, 'auditor_1') };
};

const recorded = (p: Place): Promise<AnyRow[]> =>
  rowsOf(
    p.owner,
    `select event_id, actor, convert_from(canonical, 'UTF8')::json -> 'data' as data from audit.event
     where type = 'audit.exported' order by recorded_at, seq`,
  );

const RECORDED = "select count(*)::int as n from audit.event where type = 'audit.exported'";

/** Waits until a statement counts so many. */
const counted = (p: Place, sql: string, count: number): Promise<true> =>
  eventually(
    `${count} by ${sql}`,
    async () => (await rowsOf(p.owner, sql))[0]?.['n'] === count || undefined,
    DEADLINE_MS,
  );

/** Runs a writer, which looks at its start, until it has recorded so many notices. */
const recordAll = async (p: Place, count: number): Promise<AnyRow[]> => {
  const log = await openLog(p.directory, { database: { url: p.writer } });
  await counted(p, RECORDED, count);
  await log.close();
  return recorded(p);
};

test('an export leaves events of its beginning and its end: who, what, of which time, and the digest of what was written', async (t) => {
  const p = await place(t);
  const file = join(p.directory, 'events.csv');
  const from = '2026-01-01T00:00:00.000Z';
  const args = ['audit', 'export', '--database', p.auditor, '--format', 'csv', '--from', from, '-o', file];
  const answer = await sallyport(args);
  assert.equal(answer.code, 0, answer.stderr);
  const [begun, ended, ...others] = await recordAll(p, 2);
  assert.deepEqual(others, []);
  assert.ok(begun !== undefined && ended !== undefined);
  const said = { export_id: begun['event_id'] as unknown, format: 'csv', from, output: file };
  assert.deepEqual(begun['data'], { ...said, stage: 'begun' });
  const text = readFileSync(file);
  assert.deepEqual(ended['data'], {
    ...said,
    stage: 'ended',
    rows: text.toString().trim().split('\r\n').length - 1,
    bytes: text.length,
    sha256: createHash('sha256').update(text).digest('hex'),
  });
  assert.deepEqual([begun['actor'], ended['actor']], ['auditor_1', 'auditor_1']);
  const shown = await rowsOf(
    p.owner,
    "select actor from audit.admin_changes where change = 'audit.exported'",
  );
  assert.equal(shown.length, 2);
  const report = await verifyAudit({ databaseUrl: p.owner, columns: true });
  assert.deepEqual(
    report.findings.filter(({ kind }) => kind !== 'no_anchor'),
    [],
  );
});

test('evidence is told of by the digest of its manifest and the key that signed it', async (t) => {
  const p = await place(t);
  const [out, keyFile] = [join(p.directory, 'evidence'), join(p.directory, 'export-key.pem')];
  const answer = await sallyport([
    ...['audit', 'export', '--database', p.auditor, '--format', 'jsonl', '-o', out, '--key', keyFile],
  ]);
  assert.equal(answer.code, 0, answer.stderr);
  const [, ended] = await recordAll(p, 2);
  const manifest = readFileSync(join(out, 'manifest.json'));
  const { sha256, signer } = (ended ?? assert.fail())['data'] as { sha256: string; signer: string };
  assert.equal(sha256, createHash('sha256').update(manifest).digest('hex'));
  assert.equal(signer, openAuditKey(keyFile).signer);
});

test('an export that fails, or whose end cannot be told, is no export, and its beginning is told all the same', async (t) => {
  const p = await place(t);
  const notice = { output: 'x', clock: systemClock };
  const failing = exportLines({
    databaseUrl: p.auditor,
    interval: ALL,
    format: 'csv',
    notice,
    write: () => Promise.reject(new Error('the disk is full')),
  });
  await assert.rejects(failing, /the disk is full/);
  const told = await recordAll(p, 2);
  assert.deepEqual(
    told.map((row) => (row['data'] as { stage: string }).stage),
    ['begun', 'failed'],
  );

  const file = join(p.directory, 'events.csv');
  await tamper(
    p.owner,
    `create function public.refuse_end() returns trigger language plpgsql as
       $$ begin if new.stage = 'ended' then raise exception 'no room'; end if; return new; end $$`,
    `create trigger refuse_end before insert on audit.export_notice for each row execute function public.refuse_end()`,
  );
  const answer = await sallyport(['audit', 'export', '--database', p.auditor, '--format', 'csv', '-o', file]);
  assert.match(answer.stderr, /ERR_AUDIT_EXPORT_UNRECORDED/);
  assert.deepEqual([answer.code === 0, existsSync(file), existsSync(`${file}.part`)], [false, false, false]);
});

test('nothing is read where no notice is taken, unless --no-record says so; with --wait nothing before it is recorded', async (t) => {
  const p = await place(t);
  const csv = ['audit', 'export', '--format', 'csv', '--database', p.auditor];
  const late = await sallyport([...csv, '--wait', '0s']);
  assert.match(late.stderr, /ERR_AUDIT_EXPORT_UNRECORDED/);
  assert.deepEqual([late.code === 0, late.stdout], [false, '']);
  const log = await openLog(p.directory, { database: { url: p.writer } });
  await counted(p, RECORDED, 2);
  const waiting = sallyport([...csv, '--wait', '10m']);
  await counted(p, 'select count(*)::int as n from audit.export_notice', 3);
  await log.close();
  const again = await openLog(p.directory, { database: { url: p.writer } });
  assert.match((await waiting).stdout, /^recorded_at,/);
  await again.close();

  const standby = `${p.auditor}?options=${encodeURIComponent('-c default_transaction_read_only=on')}`;
  const refused = await sallyport([...csv.slice(0, -1), standby]);
  assert.match(refused.stderr, /read-only.*--no-record.*ERR_AUDIT_EXPORT_UNRECORDED/s);
  assert.deepEqual([refused.code === 0, refused.stdout], [false, '']);
  const silent = await sallyport([...csv.slice(0, -1), standby, '--no-record']);
  assert.deepEqual([silent.code, silent.stdout.startsWith('recorded_at,')], [0, true]);
});

test('a notice bears the login and an id that the database gave, is never altered, and is recorded once', async (t) => {
  const p = await place(t);
  await ensureVerifierRole(p.owner, 'auditor_2', TEST_PASSWORD);
  await ensureReaderRole(p.owner, 'reader_1', TEST_PASSWORD);
  const call = "select audit.notice_export($1, $2, 'csv', null, null, '-', null, null, null, null) as id";
  const [first] = await rowsOf(p.auditor, call, [null, 'begun']);
  const id = String(first?.['id']);
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]/);
  await assert.rejects(rowsOf(urlAs(p.owner, 'auditor_2'), call, [id, 'ended']), /has begun no export/);
  await assert.rejects(rowsOf(urlAs(p.owner, 'reader_1'), call, [null, 'begun']), /permission denied/);
  await assert.rejects(rowsOf(p.auditor, call, [null, 'ended']), /has a stage/);
  await assert.rejects(rowsOf(p.owner, "update audit.export_notice set login = 'x'"), /append-only/);
  await recordAll(p, 1);
  await tamper(p.owner, "update audit.export_claim set claimed_at = now() - interval '1 hour'");
  const [next] = await rowsOf(p.writer, 'select count(*)::int as n from audit.next_exports()');
  assert.equal(next?.['n'], 0);
  const [claim] = await rowsOf(p.owner, 'select settled from audit.export_claim');
  assert.deepEqual(claim, { settled: true });
});

test('a reader cannot fill the trail: beyond 10,000 notices that wait, none is taken', async (t) => {
  const p = await place(t);
  await tamper(
    p.owner,
    'insert into audit.export_claim (notice_id, settled) select gen_random_uuid(), false from generate_series(1, 10000)',
  );
  const answer = await sallyport(['audit', 'export', '--format', 'csv', '--database', p.auditor]);
  assert.match(answer.stderr, /10000 notices of exports wait/);
});
