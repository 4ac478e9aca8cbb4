import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verifyAudit, type VerifyReport } from '../../src/audit/index.ts';
import { sallyport } from '../support/command.ts';
import { rowsOf, tamper } from './audit-fixture.ts';
import { type Store, useSealedStore } from './sealed-store.ts';

const sealed = useSealedStore();

/** What the signed seals say, in the order of the chains. */
const timesOf = async (s: Store, chain: string): Promise<number[]> => {
  const rows = await rowsOf(
    s.owner,
    `select convert_from(canonical, 'UTF8')::jsonb ->> 'time' as time from audit.seal where chain_id = $1 order by batch_no`,
    [chain],
  );
  return rows.map(({ time }) => Date.parse(time as string));
};

const since = (s: Store, sinceMs: number): Promise<VerifyReport> =>
  verifyAudit({ databaseUrl: s.owner, trustFile: s.trustFile, headFiles: s.heads, sinceMs });

const editEvent = (chain: string, batch: number): string =>
  `update audit.event set canonical = '\\x' where chain_id = '${chain}' and seq = (select first_seq from audit.seal where chain_id = '${chain}' and batch_no = ${batch})`;

test('only what was sealed since is read, and the report is never ok', async (t) => {
  const s = await sealed.copy(t);
  const [older, newer] = s.chains as [string, string];
  const times = [...(await timesOf(s, older)), ...(await timesOf(s, newer))];
  const startMs = (await timesOf(s, newer))[0]!;
  const read = times.filter((timeMs) => timeMs >= startMs).length;
  const report = await since(s, startMs);
  assert.deepEqual([report.ok, report.coverage, report.findings], [false, 'partial', []]);
  assert.equal(report.seals, read);
  assert.equal(report.not_read?.because, 'since');
  assert.equal(report.not_read.seals, times.length - read);
  assert.deepEqual([report.truncation, report.breaks], ['checked', 1]);

  await tamper(s.owner, editEvent(older, 1));
  assert.deepEqual((await since(s, startMs)).findings, []);
  const all = await since(s, 0);
  assert.deepEqual([all.ok, all.coverage, all.not_read?.seals], [false, 'partial', 0]);
  assert.equal(all.findings[0]?.kind, 'event_altered');
});

test('columns of seals made older hide nothing: a seal says itself how old it is', async (t) => {
  const s = await sealed.copy(t);
  const chain = s.chains[1]!;
  const startMs = (await timesOf(s, chain))[0]!;
  await tamper(
    s.owner,
    editEvent(chain, 1),
    `update audit.seal set sealed_at = '2001-01-01' where chain_id = '${chain}' and batch_no <= 2`,
  );
  const kinds = (await since(s, startMs)).findings.map(({ kind }) => kind);
  assert.ok(kinds.includes('event_altered') && kinds.includes('seal_altered'), kinds.join());
});

test('a seal that lies about its time is not believed: its signature does not hold', async (t) => {
  const s = await sealed.copy(t);
  const chain = s.chains[1]!;
  const times = await timesOf(s, chain);
  const at = times.findIndex((timeMs) => timeMs > times[0]!);
  assert.ok(at > 0 && at < times.length - 1, times.join());
  const startMs = times[at]!;
  await tamper(
    s.owner,
    `update audit.seal set sealed_at = '2001-01-01', canonical = convert_to(regexp_replace(convert_from(canonical, 'UTF8'), '"time":"[^"]*"', '"time":"2001-01-01T00:00:00.000Z"'), 'UTF8') where chain_id = '${chain}' and batch_no = ${at + 1}`,
  );
  const kinds = (await since(s, startMs)).findings.map(({ kind }) => kind);
  assert.ok(kinds.includes('signature_invalid'), kinds.join());
});

test('the command calls it partial, and exits with a code of its own; with a finding it is not verified', async (t) => {
  const s = await sealed.copy(t);
  const startMs = (await timesOf(s, s.chains[1]!))[0]!;
  const args = ['audit', 'verify', '--database', s.owner, '--trust', s.trustFile, '--heads', ...s.heads];
  const from = ['--since', new Date(startMs).toISOString()];
  const partial = await sallyport([...args, ...from]);
  assert.equal(partial.code, 4, partial.stderr);
  assert.match(partial.stdout, /^PARTIAL, nothing wrong in what was read: 2 chains/);
  assert.match(partial.stdout, /\nnot read: \d+ seals, \d+ events from before .* \(--since\)\n$/);
  await tamper(s.owner, editEvent(s.chains[1]!, 1));
  const wrong = await sallyport([...args, ...from]);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stdout, /\nNOT verified: /);
  const both = await sallyport([...args, ...from, '--resume', `${s.directory}/x.json`]);
  assert.equal(both.code, 2);
});
