import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  addSigner,
  openAuditKey,
  revokeSigner,
  verifyAudit,
  type VerifyProgress,
  type VerifyReport,
} from '../../src/audit/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { decision, openLog, rowsOf, tamper } from './audit-fixture.ts';
import { type Store, useSealedStore } from './sealed-store.ts';

const FLUSH_MS = 20_000;

const sealed = useSealedStore();

const fileOf = (s: Store): string => join(s.directory, 'verified.json');

const verify = (s: Store, options: object = {}): Promise<VerifyReport> =>
  verifyAudit({
    databaseUrl: s.owner,
    trustFile: s.trustFile,
    headFiles: s.heads,
    resumeFile: fileOf(s),
    ...options,
  });

const found = (report: VerifyReport): string[] =>
  report.findings.map(({ kind, chain_id, batch_no }) => `${kind} ${chain_id ?? '-'} ${batch_no ?? '-'}`);

const batchesOf = async (s: Store): Promise<number> => {
  const [row] = await rowsOf(s.owner, 'select count(*)::integer as n from audit.seal');
  return (row as { n: number }).n;
};

/** One more batch, sealed by the writer of the store in a chain of its own. */
const writeMore = async (s: Store): Promise<void> => {
  const log = await openLog(s.directory, { database: { url: s.owner } });
  await log.record(decision(9_000));
  assert.equal(await log.flush(FLUSH_MS), true);
  await log.close();
};

const editEvent = (chain: string, seq: number): string =>
  `update audit.event set canonical = convert_to(replace(convert_from(canonical, 'UTF8'), 'orders-app', 'orders-apq'), 'UTF8') where chain_id = '${chain}' and seq = ${seq}`;

test('a second run reads what was sealed meanwhile, says what it did not read, and counts all of it', async (t) => {
  const s = await sealed.copy(t);
  const first = await verify(s);
  assert.deepEqual([first.ok, first.coverage, first.not_read], [true, 'full', null]);
  assert.equal(statSync(fileOf(s)).mode & 0o777, 0o600);
  const before = await batchesOf(s);
  await writeMore(s);
  const second = await verify(s);
  assert.deepEqual([second.ok, second.coverage, second.findings], [true, 'resumed', []]);
  assert.deepEqual(
    [second.not_read?.because, second.not_read?.seals, second.not_read?.events],
    ['resume', first.seals, first.events],
  );
  assert.equal(second.seals, (await batchesOf(s)) - before);
  assert.deepEqual([second.truncation, second.breaks], ['checked', 1]);
  const whole = await verify(s, { resumeFile: undefined });
  assert.deepEqual(
    [second.seals + first.seals, second.events + first.events, second.dropped],
    [whole.seals, whole.events, whole.dropped],
  );
});

for (const workers of [1, 2]) {
  test(`a run of ${workers} threads that is stopped goes on where it was stopped`, async (t) => {
    const s = await sealed.copy(t);
    const stop = new AbortController();
    const running = verify(s, {
      workers,
      pieceBatches: 1,
      signal: stop.signal,
      onProgress: () => stop.abort(),
    });
    await assert.rejects(running, {
      code: 'ERR_AUDIT_VERIFY_STOPPED',
      message: /stopped after \d+ of \d+ events/,
    });
    const { chains } = JSON.parse(readFileSync(fileOf(s), 'utf8')) as {
      chains: { chain: string; batch: number }[];
    };
    assert.ok(chains.length === 1 && chains[0]?.chain === [...s.chains].sort()[0]);
    const rest = await verify(s, { workers, pieceBatches: 1 });
    assert.deepEqual([rest.ok, rest.coverage], [true, 'resumed']);
    assert.ok(rest.not_read !== null && rest.not_read.seals >= 1 && rest.seals >= 1);
    assert.equal(rest.not_read.seals + rest.seals, await batchesOf(s));
  });
}

test('nothing behind a finding is remembered: it is found again', async (t) => {
  const s = await sealed.copy(t);
  const [chain] = s.chains;
  await tamper(s.owner, editEvent(chain!, 7));
  const first = await verify(s, { pieceBatches: 1 });
  assert.deepEqual(found(first), [`event_altered ${chain} 1`]);
  const second = await verify(s, { pieceBatches: 1 });
  assert.deepEqual(found(second), found(first));
  assert.equal(second.coverage, 'resumed');
});

test('what was changed where an earlier run stood is a finding, every time, and the chain is read again', async (t) => {
  const s = await sealed.copy(t);
  const chain = [...s.chains].sort()[0]!;
  await verify(s);
  const [last] = await rowsOf(
    s.owner,
    'select max(batch_no)::integer as batch from audit.seal where chain_id = $1',
    [chain],
  );
  const { batch } = last as { batch: number };
  await tamper(
    s.owner,
    editEvent(chain, 7),
    `update audit.seal set canonical = convert_to(replace(convert_from(canonical, 'UTF8'), '"dropped":0', '"dropped":3'), 'UTF8') where chain_id = '${chain}' and batch_no = ${batch}`,
  );
  for (const run of ['the next', 'the one after it']) {
    const report = await verify(s);
    assert.ok(found(report).includes(`resume_differs ${chain} ${batch}`), run);
    assert.ok(found(report).includes(`event_altered ${chain} 1`), run);
    assert.equal(report.not_read?.seals, (await batchesOf(s)) - report.seals);
  }
});

test('a chain that an earlier run verified and that is gone is a finding', async (t) => {
  const s = await sealed.copy(t);
  const chain = s.chains[1]!;
  await verify(s, { headFiles: [] });
  await tamper(
    s.owner,
    ...['event', 'seal', 'seal_leaves', 'chain'].map(
      (table) => `delete from audit.${table} where chain_id = '${chain}'`,
    ),
  );
  const report = await verify(s, { headFiles: [] });
  assert.ok(found(report).some((one) => one.startsWith(`resume_differs ${chain} `)));
});

test('a chain row that no longer says what its seals say is found though they are not read again', async (t) => {
  const s = await sealed.copy(t);
  await verify(s);
  await tamper(s.owner, `update audit.chain set events = events - 1 where chain_id = '${s.chains[0]}'`);
  assert.ok(found(await verify(s)).some((one) => one.startsWith(`chain_row_altered ${s.chains[0]}`)));
});

test('an event behind the last seal is found though the seals are not read again', async (t) => {
  const s = await sealed.copy(t);
  const chain = s.chains[0]!;
  await verify(s);
  await tamper(
    s.owner,
    `insert into audit.event (recorded_at, chain_id, seq, canonical) select recorded_at, chain_id, 100000, canonical from audit.event where chain_id = '${chain}' and seq = 1`,
  );
  assert.deepEqual(found(await verify(s)), [`event_unsealed ${chain} -`]);
  assert.deepEqual(found(await verify(s)), [`event_unsealed ${chain} -`]);
});

test('a run with other options reads everything again, and says why', async (t) => {
  const s = await sealed.copy(t);
  await verify(s);
  const columns = await verify(s, { columns: true });
  assert.deepEqual([columns.coverage, columns.not_read], ['full', null]);
  assert.match(columns.notes[0] ?? '', /everything was read again: .*without --columns/);
  // A signer more says nothing of what was believed; one that was revoked does.
  const root = { rootKeyFile: join(s.directory, 'root.pem'), trustFile: s.trustFile, clock: systemClock };
  const { publicKey } = openAuditKey(join(s.directory, 'another.pem'));
  addSigner({ ...root, publicKey, kind: 'agent', name: 'agent-2' });
  assert.equal((await verify(s, { columns: true })).coverage, 'resumed');
  const { signer } = openAuditKey(join(s.directory, 'audit-key.pem'));
  revokeSigner({ ...root, signer, clock: { ...systemClock, nowMs: () => Date.UTC(2020, 0, 1) } });
  const revoked = await verify(s, { columns: true });
  assert.equal(revoked.coverage, 'full');
  assert.match(revoked.notes[0] ?? '', new RegExp(`before signer ${signer} was changed`));
  assert.ok(revoked.findings.every(({ kind }) => kind === 'signer_revoked') && !revoked.ok);
});

test('a resume file that others may use, or that is none, is refused', async (t) => {
  const s = await sealed.copy(t);
  await verify(s);
  chmodSync(fileOf(s), 0o620);
  await assert.rejects(verify(s), { code: 'ERR_AUDIT_RESUME_INVALID', message: /chmod 600/ });
  chmodSync(fileOf(s), 0o600);
  writeFileSync(fileOf(s), '{"v":1}');
  await assert.rejects(verify(s), { code: 'ERR_AUDIT_RESUME_INVALID', message: /no such form/ });
  const nowhere = join(s.directory, 'not-there', 'verified.json');
  await assert.rejects(verify(s, { resumeFile: nowhere }), { code: 'ERR_AUDIT_RESUME_INVALID' });
  assert.equal(existsSync(nowhere), false);
});

test('progress counts up to what the seals claim, with one thread and with several', async (t) => {
  const s = await sealed.copy(t);
  const [row] = await rowsOf(s.owner, 'select sum(event_count)::integer as events from audit.seal');
  for (const workers of [1, 2]) {
    const seen: number[] = [];
    await verify(s, {
      resumeFile: undefined,
      workers,
      pieceBatches: 1,
      onProgress: ({ events, total }: VerifyProgress) => {
        assert.equal(total, row?.['events']);
        seen.push(events);
      },
    });
    assert.equal(seen.at(-1), row?.['events']);
    assert.deepEqual(
      seen,
      [...seen].sort((a, b) => a - b),
    );
  }
});
