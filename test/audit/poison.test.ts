import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { auditDatabase, openLog, rowsOf } from './audit-fixture.ts';
import { verifyTwice } from './both-verifiers.ts';
import { VECTORS } from './event-vectors.ts';

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

const FLUSH_MS = 60_000;
const DEEP_LEVELS = 5_000;
const HUGE_CHARACTERS = 10 * 1024 * 1024;

const deep = (): unknown => {
  let value: unknown = 'bottom';
  for (let level = 0; level < DEEP_LEVELS; level += 1) value = [value];
  return value;
};

const circular: Record<string, unknown> = {};
circular.self = circular;

const POISONS: readonly unknown[] = [
  'a\u0000b',
  '\ud800x\udfff',
  NaN,
  -0,
  -Infinity,
  2 ** 63,
  -(2 ** 53),
  1e308,
  12345678901234567890n,
  deep(),
  circular,
  '999.1.2.3',
  '::1%\u0000',
  "'); drop table audit.event; --",
  '{"a":',
  '\\u0000',
  new Date(NaN),
  () => 'a function',
  Symbol('a symbol'),
  { toJSON: () => '\u0000' },
];

test('poison in every field of every event type is recorded as something, and stops no chain', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const log = await openLog(temporaryDirectory(t), { database: { url: writer } });
  t.after(() => log.close());
  const sent = new Map<string, number>();
  const send = (event: { readonly type: string; readonly [member: string]: unknown }): void => {
    sent.set(event.type, (sent.get(event.type) ?? 0) + 1);
    log.note(event as never);
  };
  for (const { type, subject, data } of VECTORS) {
    for (const poison of POISONS) {
      for (const field of Object.keys(subject))
        send({ type, subject: { ...subject, [field]: poison }, data });
      for (const field of Object.keys(data)) send({ type, subject, data: { ...data, [field]: poison } });
      send({ type, subject, data: poison });
      send({ type, subject: poison, data });
      send({ type, subject, data, at_ms: poison });
      send({ type, subject, data, id: poison });
    }
  }
  const huge = 'é\u0000'.repeat(HUGE_CHARACTERS / 2);
  for (const { type, subject, data } of VECTORS.filter((vector) => vector.type.startsWith('stream.'))) {
    for (const field of Object.keys(data)) send({ type, subject, data: { ...data, [field]: huge } });
  }
  assert.equal(await log.flush(FLUSH_MS), true);
  assert.equal(log.health().note_failures, 0);
  assert.equal(log.health().refused_chains, 0);
  const rows = await rowsOf(owner, 'select type, count(*)::int as count from audit.event group by type');
  const stored = new Map(rows.map(({ type, count }) => [type as string, count as number]));
  for (const [type, count] of sent)
    assert.ok((stored.get(type) ?? 0) >= count, `${type}: ${stored.get(type)} of ${count}`);
  const [unprojected] = await rowsOf(
    owner,
    "select count(*)::int as count from audit.event where projection_error like 'sqlstate%'",
  );
  assert.equal(unprojected?.count, 0, 'the encoder leaves nothing for the database to refuse');
  await log.close();
  const report = await verifyTwice({ databaseUrl: owner, columns: true });
  // The heartbeats that were sent countersign a chain that is not in this store.
  assert.deepEqual(
    report.findings.map(({ kind }) => kind),
    ['countersigned_head_missing', 'no_anchor'],
  );
});
