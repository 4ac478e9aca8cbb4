import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  addSigner,
  createAuditRoot,
  ensureWriterRole,
  openAuditKey,
  verifyAudit,
  type VerifyReport,
} from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';
import { auditDatabase, decision, openLog, rowsOf, tamper, TEST_PASSWORD, urlAs } from './audit-fixture.ts';
import { verifyTwice } from './both-verifiers.ts';
import { cutBehind } from './cut-behind.ts';

const FLUSH_MS = 20_000;
const HEARTBEAT_MS = 60_000;

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

interface Pair {
  readonly owner: string;
  readonly trustFile: string;
  /** Its heartbeat holds the head of `cut`. */
  readonly witness: string;
  readonly cut: string;
}

const heartbeats = (
  owner: string,
  chain: string,
): Promise<{ seq: string; data: Record<string, unknown> }[]> =>
  rowsOf(
    owner,
    `select seq, convert_from(canonical, 'UTF8')::jsonb -> 'data' as data from audit.event
     where chain_id = $1 and type = 'audit.heartbeat' order by seq`,
    [chain],
  ) as Promise<{ seq: string; data: Record<string, unknown> }[]>;

/** Two writers in one database; the second one's heartbeat has seen two batches of the first. */
const witnessed = async (t: Closer): Promise<Pair> => {
  const directory = temporaryDirectory(t, 'countersigned');
  const { owner, writer } = await auditDatabase(server);
  await ensureWriterRole(owner, 'writer_2', TEST_PASSWORD);
  const files = { rootKeyFile: join(directory, 'root.pem'), trustFile: join(directory, 'trust.json') };
  createAuditRoot(files);
  for (const name of ['one', 'two']) {
    const { publicKey } = openAuditKey(join(directory, name, 'audit-key.pem'));
    addSigner({ ...files, publicKey, kind: 'agent', name, clock: systemClock });
  }
  const first = await openLog(join(directory, 'one'), { database: { url: writer } });
  assert.equal(await first.flush(FLUSH_MS), true);
  await first.record(decision(1));
  assert.equal(await first.flush(FLUSH_MS), true);
  const clock = new ManualClock();
  const url = urlAs(owner, 'writer_2');
  const second = await openLog(join(directory, 'two'), { database: { url }, clock });
  await eventually('the database takes events', () => second.health().database === 'ok' || undefined);
  clock.advance(HEARTBEAT_MS);
  await eventually(
    'the heartbeat is stored',
    async () => (await heartbeats(owner, second.chainId)).length === 2 || undefined,
  );
  const pair = { owner, trustFile: files.trustFile, witness: second.chainId, cut: first.chainId };
  await second.close();
  await first.close();
  return pair;
};

const verify = ({ owner: databaseUrl, trustFile }: Pair): Promise<VerifyReport> =>
  verifyTwice({ databaseUrl, trustFile });

const found = (report: VerifyReport): string[] =>
  report.findings
    .map(({ kind, chain_id, batch_no }) => `${kind} ${chain_id ?? '-'} ${batch_no ?? '-'}`)
    .sort();

test('a heartbeat holds the heads of the other chains, and they verify', async (t) => {
  const pair = await witnessed(t);
  const [opening, beat] = await heartbeats(pair.owner, pair.witness);
  assert.equal(opening?.data['heads'], undefined, 'at its start no database was asked');
  const [seal] = await rowsOf(
    pair.owner,
    `select encode(seal, 'hex') as seal from audit.seal where chain_id = $1 and batch_no = 2`,
    [pair.cut],
  );
  assert.deepEqual(beat?.data['heads'], [{ batch: 2, chain: pair.cut, seal: seal?.['seal'] as string }]);
  assert.equal(beat.data['heads_omitted'], 0);
  assert.deepEqual(found(await verify(pair)), []);
});

test('a tail cut from one chain is told by the heartbeat of another', async (t) => {
  const pair = await witnessed(t);
  await tamper(pair.owner, ...cutBehind(pair.cut, 1));
  const report = await verify(pair);
  assert.deepEqual(found(report), [`countersigned_head_missing ${pair.cut} 2`]);
  const [, beat] = await heartbeats(pair.owner, pair.witness);
  assert.match(
    report.findings[0]?.message ?? '',
    new RegExp(`heartbeat ${beat?.seq} of chain ${pair.witness}`),
  );
});

test('a chain that was dropped whole is told by the heartbeat of another', async (t) => {
  const pair = await witnessed(t);
  await tamper(
    pair.owner,
    ...['event', 'seal_leaves', 'seal', 'chain'].map(
      (table) => `delete from audit.${table} where chain_id = '${pair.cut}'`,
    ),
  );
  assert.deepEqual(found(await verify(pair)), [`countersigned_head_missing ${pair.cut} 2`]);
});

test('a heartbeat that is not read again still tells of a tail that was cut since', async (t) => {
  const pair = await witnessed(t);
  const resumeFile = join(temporaryDirectory(t, 'resume'), 'verified.json');
  const options = { databaseUrl: pair.owner, trustFile: pair.trustFile, resumeFile };
  assert.equal((await verifyAudit(options)).ok, true);
  // As if the run had been stopped before the other chain was read.
  const content = JSON.parse(readFileSync(resumeFile, 'utf8')) as { chains: { chain: string }[] };
  const chains = content.chains.filter(({ chain }) => chain !== pair.cut);
  assert.equal(chains.length, 1);
  writeFileSync(resumeFile, JSON.stringify({ ...content, chains }));
  await tamper(pair.owner, ...cutBehind(pair.cut, 1));
  for (const run of ['first', 'second']) {
    const report = await verifyAudit(options);
    assert.deepEqual(found(report), [`countersigned_head_missing ${pair.cut} 2`], run);
    assert.equal(report.coverage, 'resumed');
  }
});

test('an edited heartbeat is an altered event, and its head is compared all the same', async (t) => {
  const pair = await witnessed(t);
  const [, beat] = await heartbeats(pair.owner, pair.witness);
  await tamper(
    pair.owner,
    `update audit.event set canonical = convert_to(regexp_replace(convert_from(canonical, 'UTF8'), '"seal":"[0-9a-f]{64}"}]', '"seal":"${'0'.repeat(64)}"}]'), 'UTF8') where chain_id = '${pair.witness}' and seq = ${beat?.seq}`,
  );
  const kinds = (await verify(pair)).findings.map(({ kind }) => kind).sort();
  assert.deepEqual(kinds, ['countersigned_head_differs', 'event_altered']);
});

test('of many chains the last ones are given, the rest is counted, and another site sees none', async (t) => {
  const pair = await witnessed(t);
  const omitted = async (): Promise<unknown[]> => {
    const sql = 'select omitted::int from audit.recent_heads($1, 1)';
    const rows = await rowsOf(urlAs(pair.owner, 'writer_1'), sql, ['00000000-0000-7000-8000-000000000000']);
    return rows.map((row) => row['omitted'] as number);
  };
  assert.deepEqual(await omitted(), [1]);
  await rowsOf(pair.owner, `insert into audit.site (login, site) values ('writer_1', 'elsewhere')`);
  assert.deepEqual(await omitted(), []);
});
