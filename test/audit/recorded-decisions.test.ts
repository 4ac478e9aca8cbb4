import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startPostgres } from '../support/postgres.ts';
import { auditDatabase, decision, ending, onDatabase, openLog, rowsOf, tamper } from './audit-fixture.ts';

const LOGS = 3;
const ROUNDS = 4;

test('pages of any size hold every decision of a time once, equal recorded_at included', async (t) => {
  const server = await startPostgres();
  t.after(() => server.stop());
  const { owner, writer } = await auditDatabase(server);
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-decisions-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const logs = await Promise.all(
    Array.from({ length: LOGS }, (_, index) =>
      openLog(join(directory, String(index)), { database: { url: writer } }),
    ),
  );
  let number = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const log of logs) {
      await log.record(decision((number += 1)));
      await log.record(ending(number));
    }
    for (const log of logs) await log.flush(20_000);
  }
  for (const log of logs) await log.close();

  // Three chains whose second batches were stored in the same microsecond.
  const at = '(select min(recorded_at) from audit.seal where batch_no = 2)';
  await tamper(
    owner,
    `update audit.event e set recorded_at = ${at} from audit.seal s where s.batch_no = 2 and e.chain_id = s.chain_id and e.recorded_at = s.recorded_at`,
    `update audit.seal set recorded_at = ${at} where batch_no = 2`,
  );
  const [shared] = await rowsOf(
    owner,
    'select count(*)::int as seals from audit.seal group by recorded_at order by 1 desc limit 1',
  );
  assert.equal(shared?.['seals'], LOGS);
  const events = await rowsOf(
    owner,
    "select event_id, occurred_at::text as at from audit.event where type = 'stream.decision' order by recorded_at, chain_id, seq",
  );
  assert.equal(events.length, LOGS * ROUNDS);
  const times = events.map((row) => String(row['at'])).sort();
  const [first = '', middle = ''] = [times[0], times[Math.floor(times.length / 2)]];
  for (const [from, to] of [
    [first, 'infinity'],
    [first, middle],
    [middle, 'infinity'],
  ] as const) {
    const expected = await rowsOf(
      owner,
      `select event_id from audit.event where type = 'stream.decision' and occurred_at >= $1 and occurred_at < $2
       order by recorded_at, chain_id, seq`,
      [from, to],
    );
    assert.ok(expected.length > 0);
    for (const most of [1, 2, 3, 5, 1_000]) {
      const found = await onDatabase(owner, async (client) => {
        const ids: unknown[] = [];
        const sql =
          'select first_recorded::text as a, last_recorded::text as b from audit.decision_pages($1, $2, $3)';
        for (const page of (await client.query<{ a: string; b: string }>(sql, [from, to, most])).rows) {
          const { rows } = await client.query<{ event_id: string }>(
            'select event_id from audit.decision_events($1, $2, $3, $4)',
            [page.a, page.b, from, to],
          );
          ids.push(...rows.map(({ event_id: id }) => id));
        }
        return ids;
      });
      assert.deepEqual(
        found,
        expected.map((row) => String(row['event_id'])),
        `${from} to ${to} by ${String(most)}`,
      );
    }
  }
});

test('one page reads its own events, not the partition, even before the partition has statistics', async (t) => {
  const server = await startPostgres();
  t.after(() => server.stop());
  const { owner, writer } = await auditDatabase(server);
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-page-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const log = await openLog(directory, { database: { url: writer } });
  const [moments, ofMoment] = [8, 300];
  for (let number = 1; number <= moments * ofMoment; number += 1) {
    log.note(decision(number));
    if (number % ofMoment === 0) assert.equal(await log.flush(60_000), true);
  }
  await log.close();
  await onDatabase(owner, async (client) => {
    // What an autovacuum may have learned meanwhile is forgotten.
    await client.query('delete from pg_statistic');
    const everything = ['2020-01-01', '2100-01-01'];
    const { rows: pages } = await client.query<{ a: string; b: string; n: string }>(
      'select first_recorded::text as a, last_recorded::text as b, event_count as n from audit.decision_pages($1, $2, 200)',
      everything,
    );
    assert.ok(pages.length >= 4, `${pages.length} pages`);
    const page = pages[1];
    const fetched = `select sum(pg_stat_get_xact_tuples_fetched(oid) + pg_stat_get_xact_tuples_returned(oid))::int as n
      from pg_class where relname like 'event\\_%' and relkind = 'r' and relnamespace = 'audit'::regnamespace`;
    await client.query('begin');
    const { rows } = await client.query('select event_id from audit.decision_events($1, $2, $3, $4)', [
      page?.a,
      page?.b,
      ...everything,
    ]);
    const [read] = (await client.query<{ n: number }>(fetched)).rows;
    await client.query('commit');
    assert.equal(rows.length, Number(page?.n));
    assert.ok(Number(read?.n) < 2 * rows.length, `${read?.n} rows were read for a page of ${rows.length}`);
  });
});
