/**
 * How fast events get into Postgres, through spool, seals and all indexes, on an empty store and on filled ones.
 *
 *     node --import tsx bench/ingest-process.ts [--events 200000] [--filled 0,500000]
 *
 * `--filled`: streams that are in the store before (three events for about two). Comparator in the same run: the same canonical
 * bytes into a table of one column without an index, by one statement inside the database.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { auditDatabase, decision, ending, onDatabase, openLog, rowsOf } from '../test/audit/audit-fixture.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { fillSizedStore } from '../test/support/sized-audit-store.ts';

const { values } = parseArgs({
  options: { events: { type: 'string', default: '200000' }, filled: { type: 'string', default: '0' } },
});
const EVENTS = Number(values.events);
const GROUP_STREAMS = 1_000;
const DRAIN_MS = 3_600_000;
const DAYS = 10;

const perSecond = (events: number, startedMs: number): number =>
  Math.round((1_000 * events) / (performance.now() - startedMs));

const server = await startPostgres({ durable: true });
try {
  for (const streams of values.filled.split(',').map(Number)) {
    const directory = mkdtempSync(join(tmpdir(), 'sallyport-bench-ingest-'));
    const { owner, writer } = await auditDatabase(server);
    const before =
      streams === 0
        ? 0
        : (await fillSizedStore(owner, { streams, days: DAYS, lastDay: '2026-11-20' })).events;
    if (before > 0) await rowsOf(owner, 'checkpoint');

    // First to disk alone, with a database that is not told yet; then from there into the database.
    const spooling = await openLog(directory, { maxSpoolBytes: 64 * 1024 ** 3 });
    const spoolMs = performance.now();
    for (let done = 0; done < EVENTS; done += 2 * GROUP_STREAMS) {
      const numbers = Array.from({ length: GROUP_STREAMS }, (_, index) => done + index);
      const decided = Promise.all(numbers.map((number) => spooling.record(decision(number))));
      for (const number of numbers) spooling.note(ending(number));
      await decided;
    }
    const spooled = perSecond(EVENTS, spoolMs);
    await spooling.close();
    const log = await openLog(directory, { maxSpoolBytes: 64 * 1024 ** 3, database: { url: writer } });
    const backlogMs = performance.now();
    await log.flush(DRAIN_MS);
    const delivered = perSecond(EVENTS, backlogMs);
    await log.close();

    const copied = await onDatabase(owner, async (client) => {
      await client.query('create table public.plain (canonical bytea)');
      const startedMs = performance.now();
      await client.query(
        `insert into public.plain select canonical from audit.event where recorded_at > now() - interval '1 day'`,
      );
      return perSecond(EVENTS, startedMs);
    });
    process.stdout.write(
      `${JSON.stringify({
        rows_before: before,
        to_disk_per_second: spooled,
        into_postgres_per_second: delivered,
        plain_insert_per_second: copied,
        share_of_plain_insert: Number((delivered / copied).toFixed(2)),
      })}\n`,
    );
    rmSync(directory, { recursive: true, force: true });
    await rowsOf(server.url, `drop database ${new URL(owner).pathname.slice(1)}`);
  }
} finally {
  await server.stop();
}
