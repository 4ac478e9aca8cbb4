import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  EVENT_TYPES,
  exportEvidence,
  exportLines,
  type LineFormatName,
  openAuditKey,
} from '../../src/audit/index.ts';
import { CSV_COLUMNS, csvCell } from '../../src/audit/export/csv.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { projectRoot, runCommand, sallyport } from '../support/command.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { type AnyRow, rowsOf, tamper } from './audit-fixture.ts';
import { HOSTILE, makeSite, PLANTED, type Site } from './export-fixture.ts';

const PYTHON = join(projectRoot, '.tools/python/bin/python');
const CHECK = join(projectRoot, 'tools/python/ocsf-check.py');
const missing = existsSync(join(projectRoot, '.tools/python/bin/schemathesis'))
  ? false
  : 'missing ocsf-json-schema (node tools/build-python-tools.mjs installs it)';

let server: TestPostgres;
let site: Site;

let siteDirectory: string;

before(async () => {
  server = await startPostgres();
  siteDirectory = mkdtempSync(join(tmpdir(), 'sallyport-export-'));
  site = await makeSite(server, siteDirectory);
});
after(async () => {
  await server.stop();
  rmSync(siteDirectory, { recursive: true, force: true });
});

const exported = async (
  format: LineFormatName,
  interval: { from?: string; to?: string } = {},
  databaseUrl = site.owner,
): Promise<string[]> => {
  let text = '';
  await exportLines({
    databaseUrl,
    interval: { from: interval.from, to: interval.to },
    notice: undefined,
    format,
    write: (piece) => {
      text += piece;
      return Promise.resolve();
    },
  });
  assert.ok(text.endsWith('\n'));
  return text.slice(0, -1).split('\n');
};

const allEvents = (): Promise<AnyRow[]> =>
  rowsOf(
    site.owner,
    "select *, convert_from(canonical, 'UTF8')::json as event from audit.event order by recorded_at, chain_id, seq",
  );

test('each event becomes an OCSF event that an independent validator accepts', {
  skip: missing,
}, async () => {
  const lines = await exported('ocsf');
  const events = lines.map((line) => JSON.parse(line) as AnyRow);
  const stored = await allEvents();
  assert.deepEqual(
    events.map((event) => String(event['metadata'].uid)),
    stored.map((row) => String(row['event_id'])),
  );
  assert.deepEqual(
    [...new Set(events.map((event) => String(event['metadata'].event_code)))].sort(),
    Object.keys(EVENT_TYPES).sort(),
  );
  for (const [index, event] of events.entries()) {
    assert.equal(event['class_uid'], stored[index]?.['class_uid']);
    assert.equal(event['type_uid'], Number(event['class_uid']) * 100 + Number(event['activity_id']));
    assert.equal(event['time'], (stored[index]?.['occurred_at'] as Date).getTime());
  }
  const answer = await runCommand(PYTHON, [CHECK], { input: `${lines.join('\n')}\n` });
  assert.equal(answer.code, 0, answer.stdout.slice(0, 2_000) + answer.stderr.slice(0, 2_000));
  assert.match(answer.stdout, new RegExp(`^${events.length} events, 0 problems`));
  // The validator does say no: a member that the class does not have, and one that it must have.
  const wrong = [
    { ...events[0], bogus: 1 },
    { ...events[0], metadata: { ...events[0]!['metadata'], product: undefined } },
  ];
  const refusal = await runCommand(PYTHON, [CHECK], {
    input: wrong.map((event) => `${JSON.stringify(event)}\n`).join(''),
  });
  assert.equal(refusal.code, 1, refusal.stderr);
  assert.match(refusal.stdout, /bogus/);
  assert.match(refusal.stdout, /product/);
});

test('a denied stream is a failure that was blocked, with its reason', async () => {
  const events = (await exported('ocsf')).map((line) => JSON.parse(line) as AnyRow);
  const denied = events.filter(
    (event) => event['metadata'].event_code === 'stream.decision' && event['unmapped'].data.allow === false,
  );
  assert.equal(denied.length, 48);
  for (const event of denied) {
    assert.deepEqual(
      [event['status_id'], event['action_id'], event['disposition_id'], event['status_code']],
      [2, 2, 2, 'policy_denied'],
    );
    assert.deepEqual(event['src_endpoint'], {
      ip: '203.0.113.7',
      name: 'gateway-1',
      owner: { name: 'orders-app', credential_uid: 'k_0123456789abcdef0123' },
    });
    assert.equal(event['dst_endpoint'].hostname, 'sql01.corp.example');
    assert.equal(event['dst_endpoint'].ip, '10.1.2.3');
  }
});

test('a denial at a re-check is the reset of what was open, not an open that was refused', async () => {
  const events = (await exported('ocsf')).map((line) => JSON.parse(line) as AnyRow);
  const denied = events.filter(
    (event) => event['metadata'].event_code === 'stream.decision' && event['unmapped'].data.allow === false,
  );
  const activities = denied.map((event): unknown[] => [
    event['unmapped'].data.recheck === true,
    event['activity_id'],
    event['type_uid'],
  ]);
  const [opens, resets] = [false, true].map((flag) => activities.filter(([recheck]) => recheck === flag));
  assert.deepEqual([...new Set(opens?.map(String))], ['false,1,400101']);
  assert.deepEqual(resets?.map(String), ['true,3,400103', 'true,3,400103']);
  const entries = (await exported('opa')).map((line) => JSON.parse(line) as AnyRow);
  assert.equal(entries.filter((entry) => entry['custom'].recheck === true).length, 2);
});

test('the decision log holds each decision once, with its input byte for byte', async () => {
  const lines = await exported('opa');
  const stored = (await allEvents()).filter((row) => /^(stream|publish)\.decision$/.test(row['type']));
  assert.equal(lines.length, stored.length);
  for (const [index, line] of lines.entries()) {
    const { event } = stored[index]!;
    const entry = JSON.parse(line) as AnyRow;
    assert.equal(entry['decision_id'], event.id);
    assert.equal(entry['timestamp'], event.at);
    assert.equal(entry['path'], `sallyport/decision/${String(event.type).split('.')[0] ?? ''}`);
    assert.equal(entry['result'].allow, event.data.allow);
    assert.deepEqual(entry['result'].candidates, event.data.candidates);
    assert.deepEqual(entry['bundles'], { sallyport: { revision: 'r1' } });
    assert.equal(entry['labels'].id, 'instance-1');
    assert.ok(line.endsWith(`"input":${event.data.input}}`), line);
    if (event.type === 'stream.decision') {
      assert.equal(entry['requested_by'], '203.0.113.7');
      assert.equal(entry['metrics'].timer_rego_query_eval_ns, 44_500);
    }
  }
});

test('CSV has the columns of audit.event, and neither a formula nor a control character', async () => {
  const columns = await rowsOf(
    site.owner,
    `select attname from pg_attribute where attrelid = 'audit.event'::regclass and attnum > 0
       and attname <> 'canonical' order by attnum`,
  );
  assert.deepEqual(
    [...CSV_COLUMNS],
    columns.map((row) => String(row['attname'])),
  );
  const lines = await exported('csv');
  assert.equal(lines[0], `${CSV_COLUMNS.join(',')}\r`);
  const stored = await allEvents();
  assert.equal(lines.length, stored.length + 1, 'a line per event: no cell has a line break');
  for (const line of lines) assert.doesNotMatch(line.slice(0, -1), /[\u0000-\u001f\u007f-\u009f\u202e]/);
  const hostile = lines.filter((line) => line.includes('calc'));
  assert.equal(hostile.length, 2);
  const cell = `"'=cmd|"" /C calc""!A0\\u001b[2J\\u000d\\u000asecond line,\\u202e"`;
  for (const line of hostile) assert.ok(line.includes(`,${cell},`), line);
  assert.equal(csvCell(HOSTILE), cell);
  for (const start of ['=', '+', '-', '@', '\uff1d', '\uff0b', '\uff0d', '\uff20'])
    assert.equal(csvCell(`${start}1`), `'${start}1`);
  assert.equal(csvCell(-5), '-5');
});

test('an interval holds the events that happened in it, and no others', async () => {
  const times = (await allEvents()).map((row) => (row['occurred_at'] as Date).toISOString()).sort();
  const [from, to] = [times[Math.floor(times.length / 3)]!, times[Math.floor((2 * times.length) / 3)]!];
  const expected = times.filter((at) => at >= from && at < to).length;
  assert.ok(expected > 0 && expected < times.length);
  assert.equal((await exported('csv', { from, to })).length - 1, expected);
  const parts = await Promise.all([
    exported('csv', { to: from }),
    exported('csv', { from, to }),
    exported('csv', { from: to }),
  ]);
  assert.equal(
    parts.reduce((sum, part) => sum + part.length - 1, 0),
    times.length,
  );
});

test('no planted secret is in any export', async (t) => {
  const directory = join(temporaryDirectory(t, 'export'), 'evidence');
  await exportEvidence({
    databaseUrl: site.owner,
    interval: { from: undefined, to: undefined },
    notice: undefined,
    directory,
    key: openAuditKey(site.exportKeyFile),
    clock: systemClock,
  });
  const texts = [
    ...(await Promise.all((['ocsf', 'opa', 'csv'] as const).map((format) => exported(format)))).flat(),
    ...readdirSync(directory).map((name) => readFileSync(join(directory, name), 'utf8')),
  ];
  const all = texts.join('\n');
  assert.match(all, /"planted"/, 'the event that had them is there');
  for (const secret of PLANTED) assert.ok(!all.includes(secret), secret);
});

test('evidence that is not what was sealed is not signed', async (t) => {
  const name = `${new URL(site.owner).pathname.slice(1)}_unsound`;
  await rowsOf(server.url, `create database ${name} template ${new URL(site.owner).pathname.slice(1)}`);
  const owner = new URL(site.owner);
  owner.pathname = `/${name}`;
  await tamper(
    owner.href,
    `update audit.event set canonical = convert_to(replace(convert_from(canonical, 'UTF8'), 'orders-app', 'orders-apq'), 'UTF8')
     where type = 'stream.close' and convert_from(canonical, 'UTF8') like '%orders-app%'`,
  );
  const directory = join(temporaryDirectory(t, 'export'), 'evidence');
  await assert.rejects(
    exportEvidence({
      databaseUrl: owner.href,
      interval: { from: undefined, to: undefined },
      notice: undefined,
      directory,
      key: openAuditKey(site.exportKeyFile),
      clock: systemClock,
    }),
    { code: 'ERR_AUDIT_EXPORT_UNSOUND' },
  );
  assert.ok(!existsSync(join(directory, 'manifest.json')));
});

test('the command writes a file in one step, private, and never over another', async (t) => {
  const directory = temporaryDirectory(t, 'export');
  const file = join(directory, 'events.csv');
  const args = ['audit', 'export', '--database', site.owner, '--format', 'csv', '-o', file];
  const first = await sallyport(args);
  assert.equal(first.code, 0, first.stderr);
  assert.deepEqual(readdirSync(directory), ['events.csv']);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const second = await sallyport(args);
  assert.equal(second.code, 2);
  assert.match(second.stderr, /ERR_CLI_FILE_EXISTS/);
  const piped = await sallyport([...args.slice(0, -2), '-q']);
  assert.equal(piped.stdout, readFileSync(file, 'utf8'));
});
