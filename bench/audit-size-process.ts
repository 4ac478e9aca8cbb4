/**
 * What the audit trail costs: bytes per event, index and seal, and what each of the twenty questions takes, on stores of
 * generated streams that are projected by the function that a writer's events go through.
 *
 *     node --import tsx bench/audit-size-process.ts [--streams 50000,510000] [--days 10]
 *
 * Starts a PostgreSQL of its own and removes it.
 */
import { parseArgs } from 'node:util';
import { auditDatabase, rowsOf } from '../test/audit/audit-fixture.ts';
import { startPostgres } from '../test/support/postgres.ts';
import { fillSizedStore, type SizedStore } from '../test/support/sized-audit-store.ts';
import { showGrowth, timeQuestions } from './audit-questions.ts';

const { values } = parseArgs({
  options: {
    streams: { type: 'string', default: '50000,510000' },
    days: { type: 'string', default: '10' },
  },
});
const sizes = values.streams.split(',').map(Number);
const days = Number(values.days);
const LAST_DAY = '2026-11-20';
const SECONDS_OF_DAY = 86_400;
const GIB = 1024 ** 3;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Bytes of the indexes of all partitions together, by the columns that their names tell; and of the tables. */
const SIZES_SQL = `
  select case c.relkind when 'i' then 'index ' || regexp_replace(c.relname, '^(event|seal_leaves)_(\\d{8}|default)_|_idx$', '', 'g')
      else 'table ' || regexp_replace(c.relname, '_(\\d{8}|default)$', '') end as what,
    regexp_replace(t.relname, '_(\\d{8}|default)$', '') as of_table,
    sum(case c.relkind when 'i' then pg_relation_size(c.oid) else pg_table_size(c.oid) end)::bigint as bytes
  from pg_class as c
  left join pg_index as i on i.indexrelid = c.oid
  join pg_class as t on t.oid = coalesce(i.indrelid, c.oid)
  where c.relnamespace = 'audit'::regnamespace and c.relkind in ('r', 'i')
    and t.relname ~ '^(event|seal|seal_leaves)(_\\d{8}|_default)?$'
  group by 1, 2 order by 2, 1 desc`;

const showSizes = async (owner: string, { events }: SizedStore): Promise<void> => {
  const [seals] = await rowsOf(owner, 'select count(*)::integer as n from audit.seal');
  const [streams] = await rowsOf(
    owner,
    "select count(*)::integer as n from audit.event where type = 'stream.decision'",
  );
  const types = await rowsOf(
    owner,
    `select type, count(*)::integer as n, avg(octet_length(canonical))::integer as canonical,
       avg(pg_column_size(canonical))::integer as stored, avg(pg_column_size(e.*))::integer as row
     from audit.event as e group by type order by n desc`,
  );
  say(`\n| event type | events | canonical bytes | as stored | row, bytes |\n|---|---|---|---|---|`);
  for (const row of types)
    say(`| \`${row.type}\` | ${row.n} | ${row.canonical} | ${row.stored} | ${row.row} |`);
  const parts = await rowsOf(owner, SIZES_SQL);
  say(`\n| of | what | bytes | per event |\n|---|---|---|---|`);
  let total = 0;
  for (const row of parts) {
    total += Number(row.bytes);
    say(`| ${row.of_table} | ${row.what} | ${row.bytes} | ${(Number(row.bytes) / events).toFixed(1)} |`);
  }
  const sealBytes = parts
    .filter((row) => row.of_table !== 'event')
    .reduce((sum, row) => sum + Number(row.bytes), 0);
  const perStream = total / streams!.n;
  say(`\n${events} events, ${streams!.n} streams, ${seals!.n} seals; ${total} bytes`);
  say(
    `${(total / events).toFixed(0)} bytes an event, ${perStream.toFixed(0)} a stream, ${(sealBytes / seals!.n).toFixed(0)} a seal with its leaves`,
  );
  for (const perSecond of [1, 10, 100, 1_000]) {
    say(`${perSecond} opens/s: ${((perStream * perSecond * SECONDS_OF_DAY) / GIB).toFixed(2)} GiB a day`);
  }
};

const server = await startPostgres();
const results: { readonly events: number; readonly took: ReadonlyMap<string, number> }[] = [];
try {
  for (const streams of sizes) {
    const { owner } = await auditDatabase(server);
    const started = performance.now();
    const store = await fillSizedStore(owner, { streams, days, lastDay: LAST_DAY });
    say(`\n${store.events} events in ${((performance.now() - started) / 1_000).toFixed(0)} s`);
    await showSizes(owner, store);
    results.push({
      events: store.events,
      took: await timeQuestions(owner, 'one day', { from: store.days[5] ?? '', to: store.days[6] ?? '' }),
    });
  }
} finally {
  await server.stop();
}

showGrowth(results);
