import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isAppError } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { auditDatabase, decision, ending, openLog, rowsOf, streamId, tamper } from './audit-fixture.ts';
import { verifyTwice } from './both-verifiers.ts';

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

const FLUSH_MS = 20_000;

test('recorded events become rows with their columns, in order, once', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const log = await openLog(temporaryDirectory(t), { database: { url: writer } });
  const recorded = await Promise.all([
    ...Array.from({ length: 300 }, (_, n) => log.record(decision(n + 1))),
    log.record(decision(900, false)),
    log.record(ending(1)),
  ]);
  assert.equal(await log.flush(FLUSH_MS), true);
  const rows = await rowsOf(owner, 'select * from audit.event order by seq');
  assert.equal(rows.length, 304);
  assert.deepEqual(
    rows.map((row) => Number(row.seq)),
    Array.from({ length: 304 }, (_, n) => n + 1),
  );
  const byId = new Map(rows.map((row) => [row.event_id, row]));
  for (const { event_id: id, seq } of recorded) assert.equal(Number(byId.get(id)?.seq), seq);
  const allowed = rows.find((row) => row.stream_id === streamId(1) && row.type === 'stream.decision')!;
  assert.equal(allowed.action, 'allowed');
  assert.equal(allowed.agent, 'agent-1');
  assert.equal(allowed.policy_rule, 'orders-app');
  assert.deepEqual(allowed.policy_rules, ['orders-publish', 'orders-app']);
  assert.equal(allowed.target_addr, '10.1.2.3');
  assert.equal(allowed.eval_us, 44.5);
  assert.equal(allowed.bundle_sequence, '7');
  assert.equal(allowed.agent_zone, 'Europe/Berlin');
  assert.equal(allowed.projection_error, null);
  const denied = rows.find((row) => row.action === 'denied')!;
  assert.deepEqual(
    [denied.disposition, denied.close_reason, denied.reasons],
    ['blocked', 'policy_denied', ['no_stream_rule']],
  );
  const [stream] = await rowsOf(owner, 'select * from audit.streams where stream_id = $1', [streamId(1)]);
  assert.deepEqual(
    [stream?.state, stream?.close_reason, stream?.bytes_down],
    ['closed', 'client_fin', '2000'],
  );
  await log.close();
});

test('an event is on disk before record resolves: writev and fdatasync of it had returned', async (t) => {
  const directory = temporaryDirectory(t);
  const traceFile = join(directory, 'trace');
  const log = await openLog(directory, { files: { traceFile } });
  const { event_id: id } = await log.record(decision(1));
  const resolvedNs = process.hrtime.bigint();
  const trace = readFileSync(traceFile, 'utf8')
    .trim()
    .split('\n')
    .map(
      (line) =>
        JSON.parse(line) as { operation: string; file?: number; ids?: string[]; end_ns: string; ok: boolean },
    );
  const written = trace.findIndex((line) => line.operation === 'writev' && line.ids?.includes(id));
  assert.notEqual(written, -1);
  const synced = trace
    .slice(written)
    .find((line) => line.operation === 'fdatasync' && line.file === trace[written]!.file);
  assert.equal(synced?.ok, true);
  assert.ok(BigInt(synced.end_ns) < resolvedNs);
  await log.close();
});

test('an unwritable spool refuses the decision at once, and takes decisions again when it can', async (t) => {
  const directory = temporaryDirectory(t);
  const faultFile = join(directory, 'fault');
  const log = await openLog(directory, { files: { faultFile } });
  for (const operation of ['writev', 'fdatasync']) {
    writeFileSync(faultFile, `${operation} open`);
    await assert.rejects(log.record(decision(1)), (error) => isAppError(error, 'ERR_AUDIT_UNAVAILABLE'));
    assert.equal(log.available(), false);
    assert.equal(log.health().spool, 'failed');
    rmSync(faultFile);
    await eventually('the spool works again', () => (log.available() ? true : undefined));
    await log.record(decision(2));
  }
  await log.close();
});

test('a spool that cannot be written at the start is an error of opening', async (t) => {
  const directory = temporaryDirectory(t);
  const faultFile = join(directory, 'fault');
  writeFileSync(faultFile, 'fdatasync');
  await assert.rejects(openLog(directory, { files: { faultFile } }), { code: 'ERR_AUDIT_SPOOL_OPEN' });
  writeFileSync(join(directory, 'file'), '');
  await assert.rejects(openLog(directory, { spoolDir: join(directory, 'file', 'spool') }), {
    code: 'ERR_AUDIT_SPOOL_OPEN',
  });
});

test('two processes cannot write one spool', async (t) => {
  const directory = temporaryDirectory(t);
  const log = await openLog(directory);
  await assert.rejects(openLog(directory), { code: 'ERR_AUDIT_SPOOL_IN_USE' });
  await log.close();
  await (await openLog(directory)).close();
});

test('after close nothing is taken', async (t) => {
  const log = await openLog(temporaryDirectory(t));
  await log.close();
  await log.close();
  assert.equal(log.available(), false);
  await assert.rejects(log.record(decision(1)), { code: 'ERR_AUDIT_UNAVAILABLE' });
});

test('database away: events go on into the spool and arrive later, once each', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const log = await openLog(temporaryDirectory(t), { database: { url: writer } });
  for (let n = 0; n < 250; n += 1) log.note(decision(n));
  assert.equal(await log.flush(FLUSH_MS), true);
  await server.pause();
  for (let n = 250; n < 700; n += 1) log.note(decision(n));
  await log.record(decision(700));
  await eventually('the outage shows', () => (log.health().database === 'failing' ? true : undefined));
  assert.ok(log.available());
  await eventually('batches wait', () => (log.health().unacknowledged_batches > 0 ? true : undefined));
  await server.resume();
  assert.equal(await log.flush(FLUSH_MS), true);
  const [count] = await rowsOf(
    owner,
    "select count(*)::int as events, count(distinct event_id)::int as ids from audit.event where type = 'stream.decision'",
  );
  assert.deepEqual(count, { events: 701, ids: 701 });
  await log.close();
});

test('database away at start and at close: the next start delivers', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const directory = temporaryDirectory(t);
  await server.pause();
  const first = await openLog(directory, { database: { url: writer } });
  await first.record(decision(1));
  await eventually('the outage shows', () => (first.health().database === 'failing' ? true : undefined));
  await first.close();
  await server.resume();
  const second = await openLog(directory, { database: { url: writer } });
  await second.record(ending(1));
  assert.equal(await second.flush(FLUSH_MS), true);
  const chains = await rowsOf(owner, 'select chain_id, prev_chain, final from audit.chain order by epoch');
  assert.deepEqual(chains, [
    { chain_id: first.chainId, prev_chain: null, final: true },
    { chain_id: second.chainId, prev_chain: first.chainId, final: false },
  ]);
  await second.close();
});

test('poison in every field blocks nothing', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const log = await openLog(temporaryDirectory(t), { database: { url: writer } });
  const poisons: unknown[] = [
    '\u0000',
    'a\u0000b\ud800',
    '\udfff',
    'fe80::1%eth0',
    '\u001b]0;x\u0007',
    '::ffff:1.2.3.4',
    '01.02.03.004',
    '10.0.0.0/8',
    'x'.repeat(20_000),
    NaN,
    -1,
    1.5,
    1e300,
    2 ** 53,
    99_999_999_999,
    true,
    null,
    {},
    [['\u0000']],
    { '\ud800': '\u0000' },
  ];
  const fields = Object.keys({
    ...decision(1).subject,
    actor: 0,
    login_id: 0,
    own_spki: 0,
    site: 0,
    namespace: 0,
    agent: 0,
  });
  const dataFields = [
    'allow',
    'reason',
    'rule',
    'rules',
    'reasons',
    'bundle',
    'eval_us',
    'shadow',
    'input',
    'decided_by',
    'bytes_up',
    'dial_ms',
    'managed_sha256',
    'candidates',
  ];
  let sent = 0;
  const send = (subject: object, data: object, atMs?: unknown): void => {
    sent += 1;
    log.note({
      ...decision(1),
      subject: { ...decision(1).subject, ...subject },
      data: { ...decision(1).data, ...data },
      at_ms: atMs,
    } as never);
  };
  for (const poison of poisons) {
    for (const field of fields) send({ [field]: poison }, {});
    for (const field of dataFields) send({}, { [field]: poison });
    send({}, { [String(poison)]: poison }, poison);
    send({}, { bundle: { sha256: poison, revision: poison, sequence: poison } });
    send({}, { reasons: [{ code: poison }], rules: { publish: [poison], stream: poison } });
  }
  assert.equal(await log.flush(FLUSH_MS), true);
  const [count] = await rowsOf(
    owner,
    `select count(*)::int as events, count(projection_error)::int as set_aside,
       count(*) filter (where projection_error like 'sqlstate%')::int as not_projected
     from audit.event where type = 'stream.decision'`,
  );
  assert.equal(count?.events, sent);
  assert.ok(count.set_aside > 0);
  assert.equal(count.not_projected, 0);
  const report = await verifyTwice({ databaseUrl: owner, columns: true });
  assert.deepEqual(
    report.findings.map((finding) => finding.kind),
    ['no_anchor'],
  );
  for (const view of [
    'decisions',
    'denies',
    'streams',
    'active_streams',
    'timeline',
    'key_usage',
    'revocations',
    'health',
  ]) {
    await rowsOf(owner, `select * from audit.${view}`);
  }
  await log.close();
});

test('a day without a partition goes to the default one, and health says so', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  await tamper(
    owner,
    'update audit.upkeep set partitions_at = now()',
    `do $$ declare name text; begin
       for name in select relname from pg_class where relnamespace = 'audit'::regnamespace
         and relkind = 'r' and relname ~ '_[0-9]{8}$'
       loop execute format('drop table audit.%I', name); end loop; end $$`,
  );
  const log = await openLog(temporaryDirectory(t), { database: { url: writer } });
  await log.record(decision(1));
  assert.equal(await log.flush(FLUSH_MS), true);
  const [health] = await rowsOf(owner, 'select default_partition_rows::int as rows from audit.health');
  assert.ok(health?.rows >= 2);
  // The next upkeep makes the other days; today's rows stay in the net.
  await tamper(owner, "update audit.upkeep set partitions_at = now() - interval '2 hours'");
  await log.record(decision(2));
  assert.equal(await log.flush(FLUSH_MS), true);
  const partitions = await rowsOf(
    owner,
    "select relname from pg_class where relnamespace = 'audit'::regnamespace and relname ~ '^event_[0-9]{8}$' and relkind = 'r'",
  );
  assert.equal(partitions.length, 14);
  assert.equal(
    (await rowsOf(owner, "select count(*)::int as n from audit.event where type = 'stream.decision'"))[0]?.n,
    2,
  );
  await log.close();
});

test('a fork: the chain is set aside, the writer goes on in another with a break', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const directory = temporaryDirectory(t);
  const log = await openLog(directory, { database: { url: writer } });
  const before = log.chainId;
  await log.record(decision(1));
  assert.equal(await log.flush(FLUSH_MS), true);
  // Another holder of the same key and spool wrote the next place: the head is not ours any more.
  await tamper(owner, `update audit.chain set head = sha256('other'::bytea)`);
  await log.record(decision(2));
  await eventually('the chain is refused', () => (log.health().refused_chains === 1 ? true : undefined));
  await log.record(decision(3));
  assert.equal(await log.flush(FLUSH_MS), true);
  assert.notEqual(log.chainId, before);
  const [alarm] = await rowsOf(owner, 'select fork_alarms from audit.chain where chain_id = $1', [before]);
  assert.equal(alarm?.fork_alarms, 1);
  const [broken] = await rowsOf(
    owner,
    "select audit.details(canonical) -> 'data' as data from audit.event where chain_id = $1 and type = 'audit.chain_break'",
    [log.chainId],
  );
  assert.equal(broken?.data.reason, 'fork');
  assert.equal(broken.data.previous_chain, before);
  assert.ok(readdirSync(join(directory, 'spool', 'refused')).length > 0);
  await log.close();
});

test('restarts continue the chain, and streams that a kill -9 cut are closed as agent_lost', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const directory = temporaryDirectory(t);
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('./writing-process.js', import.meta.url)), directory, writer],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const recorded: string[] = [];
  await new Promise<void>((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
      const lines = text.split('\n');
      text = lines.pop() ?? '';
      recorded.push(...lines);
      if (recorded.length > 600) child.kill('SIGKILL');
    });
    child.on('error', reject);
    child.on('close', () => resolve());
  });
  const log = await openLog(directory, { database: { url: writer } });
  assert.equal(await log.flush(FLUSH_MS), true);
  const rows = await rowsOf(owner, "select event_id from audit.event where type = 'stream.decision'");
  const ids = new Set(rows.map((row) => String(row.event_id)));
  assert.equal(ids.size, rows.length);
  for (const id of recorded) assert.ok(ids.has(id), `acknowledged event ${id} is lost`);
  const chains = await rowsOf(owner, 'select chain_id, prev_chain, final from audit.chain order by epoch');
  assert.equal(chains.length, 2);
  assert.deepEqual([chains[0]?.final, chains[1]?.prev_chain], [true, chains[0]?.chain_id]);
  const [lost] = await rowsOf(
    owner,
    "select count(*)::int as n from audit.streams where close_reason = 'agent_lost'",
  );
  assert.equal(lost?.n, rows.length);
  const report = await verifyTwice({ databaseUrl: owner, columns: true });
  assert.deepEqual(
    report.findings.map((finding) => finding.kind),
    ['no_anchor'],
  );
  assert.equal(report.breaks, 1);
  await log.close();
});

test('JSONL gets every event, in order, without a database too', async (t) => {
  const directory = temporaryDirectory(t);
  const jsonlDir = join(directory, 'jsonl');
  const log = await openLog(directory, { jsonlDir });
  for (let n = 0; n < 450; n += 1) log.note(decision(n));
  assert.equal(await log.flush(FLUSH_MS), true);
  const lines = readdirSync(jsonlDir)
    .sort()
    .flatMap((name) => readFileSync(join(jsonlDir, name), 'utf8').trim().split('\n'))
    .map((line) => JSON.parse(line) as { seq: number; chain: string; event: { type: string } });
  assert.deepEqual(
    lines.map((line) => line.seq),
    Array.from({ length: 452 }, (_, n) => n + 1),
  );
  assert.ok(lines.every((line) => line.chain === log.chainId));
  await log.close();
});
