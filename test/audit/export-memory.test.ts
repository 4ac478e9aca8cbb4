import assert from 'node:assert/strict';
import { createReadStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { sallyport } from '../support/command.ts';
import { startPostgres } from '../support/postgres.ts';
import { auditDatabase, decision, openLog, rowsOf } from './audit-fixture.ts';

const EVENTS = 20_000;
/** OCSF lines of these events are some 45 MB: more than the heap may be. */
const HEAP_MB = 40;
const FLUSH_MS = 60_000;
const DEADLINE_MS = 120_000;

test('a long interval is exported by a process whose heap could not hold it', {
  timeout: 300_000,
}, async (t) => {
  const server = await startPostgres();
  t.after(() => server.stop());
  const { owner, writer } = await auditDatabase(server);
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-export-memory-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const log = await openLog(directory, { database: { url: writer } });
  for (let n = 0; n < EVENTS; n += 1) {
    if (n % 1_000 === 0) await log.record(decision(n));
    else log.note(decision(n));
  }
  assert.equal(await log.flush(FLUSH_MS), true);
  await log.close();
  const [stored] = await rowsOf(owner, 'select count(*)::int as n from audit.event');
  const total = Number(stored?.['n']);
  assert.ok(total > EVENTS);

  const env = { NODE_OPTIONS: `--max-old-space-size=${HEAP_MB}` };
  const file = join(directory, 'events.ndjson');
  const args = ['audit', 'export', '--database', owner, '--json'];
  const lines = await sallyport([...args, '--format', 'ocsf', '-o', file], { env, deadlineMs: DEADLINE_MS });
  assert.equal(lines.code, 0, lines.stderr.slice(0, 2_000));
  assert.equal((JSON.parse(lines.stdout) as { events: number }).events, total);
  const ids = new Set<string>();
  for await (const line of createInterface({ input: createReadStream(file) }))
    ids.add((JSON.parse(line) as { metadata: { uid: string } }).metadata.uid);
  assert.equal(ids.size, total, 'each event once');

  const key = join(directory, 'export-key.pem');
  const out = join(directory, 'evidence');
  const evidence = await sallyport([...args, '--format', 'jsonl', '-o', out, '--key', key], {
    env,
    deadlineMs: DEADLINE_MS,
  });
  assert.equal(evidence.code, 0, evidence.stderr.slice(0, 2_000));
  assert.equal((JSON.parse(evidence.stdout) as { events: number }).events, total);
});
