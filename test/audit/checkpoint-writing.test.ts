import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ensureWriterRole } from '../../src/audit/index.ts';
import { readAuditKey } from '../../src/audit/seal/audit-key.ts';
import {
  type Checkpoint,
  readCheckpointLine,
  type SignedCheckpoint,
  signCheckpoint,
} from '../../src/audit/checkpoint/checkpoint.ts';
import { Desk } from '../../src/audit/checkpoint/desk.ts';
import { FilePlace } from '../../src/audit/checkpoint/file-place.ts';
import type { Place } from '../../src/audit/checkpoint/place.ts';
import { Series } from '../../src/audit/checkpoint/series.ts';
import { openAuditKey } from '../../src/audit/seal/audit-key.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { decision, openLog, rowsOf, TEST_PASSWORD, tamper, urlAs } from './audit-fixture.ts';
import {
  checkpointPlaces,
  checkpointsIn,
  checkpointStore,
  found,
  linesOf,
  verifyStore,
  writeOnce,
} from './checkpoint-fixture.ts';

const KILLS = 4;
const LINES_BEFORE_KILL = 6;

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

test('a file is only appended to, for the owner alone, and the next one begins when it is full', async (t) => {
  const directory = temporaryDirectory(t, 'checkpoint-file');
  const file = join(directory, 'kept', 'checkpoints.jsonl');
  const place = new FilePlace(file, 20);
  await place.take('one');
  await place.take('one');
  assert.equal(readFileSync(file, 'utf8'), 'one\n', 'the last line again is not written again');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  writeFileSync(file, 'one\ntw', { flag: 'w' });
  await place.take('two');
  assert.equal(readFileSync(file, 'utf8'), 'one\ntw\ntwo\n', 'what was cut stays');
  await place.take('one');
  assert.equal(readFileSync(file, 'utf8'), 'one\ntw\ntwo\none\n', 'only the last line counts');
  await place.take('three');
  await place.take('four');
  assert.equal(readFileSync(file, 'utf8'), 'one\ntw\ntwo\none\nthree\n', 'a full file keeps its name');
  assert.equal(readFileSync(`${file}.1`, 'utf8'), 'four\n');
  for (const line of ['a line that fills it', 'five']) await place.take(line);
  assert.equal(readFileSync(`${file}.2`, 'utf8'), 'five\n');
  rmSync(file);
  await place.take('six');
  assert.equal(readFileSync(`${file}.2`, 'utf8'), 'five\nsix\n', 'the first ones may be removed');
  const names = ['checkpoints.jsonl.1', 'checkpoints.jsonl.2'];
  assert.deepEqual(readdirSync(join(directory, 'kept')).sort(), names);
});

test('a series goes on after a restart, and begins anew under another key or without its file', async (t) => {
  const directory = temporaryDirectory(t, 'series');
  const file = join(directory, 'series.json');
  const facts = (id: string): Pick<Checkpoint, 'id' | 'time' | 'own' | 'heads' | 'omitted'> => ({
    id: `019ab000-0000-7000-8000-00000000000${id}`,
    time: '2026-01-02T03:04:05.678Z',
    own: null,
    heads: [],
    omitted: null,
  });
  const key = openAuditKey(join(directory, 'key.pem'));
  const first = await (await Series.open(file, key)).next(facts('1'));
  const second = await (await Series.open(file, key)).next(facts('2'));
  assert.equal(second.checkpoint.number, 2);
  assert.equal(second.checkpoint.series, first.checkpoint.series);
  assert.equal(second.checkpoint.prev, first.digest.toString('hex'));
  const other = await (await Series.open(file, openAuditKey(join(directory, 'other.pem')))).next(facts('3'));
  assert.equal(other.checkpoint.number, 1);
  assert.notEqual(other.checkpoint.series, first.checkpoint.series);
  writeFileSync(file, 'no checkpoint');
  assert.equal((await (await Series.open(file, key)).next(facts('4'))).checkpoint.number, 1);
});

test('a place that fails gets the same checkpoint again, and none is left out', async (t) => {
  const directory = temporaryDirectory(t, 'desk');
  const series = await Series.open(join(directory, 'series.json'), openAuditKey(join(directory, 'key.pem')));
  const asked: string[] = [];
  const taken: string[] = [];
  const place: Place = {
    name: 'url',
    take: (line) => {
      asked.push(line);
      if (asked.length <= 2) return Promise.reject(new Error('away'));
      taken.push(line);
      return Promise.resolve();
    },
  };
  const desk = new Desk({ place, series, databaseUrl: undefined, clock: systemClock, logger: silentLogger });
  const { signal } = new AbortController();
  for (let round = 1; round <= 4; round += 1) {
    const id = `019ab000-0000-7000-8000-00000000000${round}`;
    await desk.make({ id, time: '2026-01-02T03:04:05.678Z', own: null, heads: [], omitted: null }, signal);
    if (round === 2) assert.deepEqual([desk.health().failures, desk.health().error], [2, 'away']);
  }
  assert.equal(asked[0], asked[1], 'nothing newer is made while it is away');
  assert.deepEqual(
    taken.map((line) => readCheckpointLine(line)?.checkpoint.number),
    [1, 2, 3],
  );
  assert.equal(desk.health().error, undefined);
});

test('writers that are killed in the middle of writing leave files that verify', async (t) => {
  const directory = temporaryDirectory(t, 'checkpoint-kills');
  const store = await checkpointStore(server, directory);
  for (let kill = 0; kill < KILLS; kill += 1) {
    const before = linesOf(store.file).length;
    const child = spawn(
      process.execPath,
      [
        fileURLToPath(new URL('./checkpointing-process.js', import.meta.url)),
        ...[directory, store.writer, store.file],
      ],
      { stdio: 'ignore' },
    );
    t.after(() => child.kill('SIGKILL'));
    await eventually('checkpoints are written', () =>
      linesOf(store.file).length >= before + LINES_BEFORE_KILL ? true : undefined,
    );
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
    const report = await verifyStore(store);
    assert.deepEqual(found(report), [], `after kill ${kill + 1}`);
  }
  // The worst place for a kill, made on purpose: the number is taken and its line is half there.
  const text = readFileSync(store.file, 'utf8');
  writeFileSync(store.file, text.slice(0, -100));
  await writeOnce(store, 500);
  const report = await verifyStore(store);
  assert.deepEqual(found(report), []);
  const numbers = new Set(linesOf(store.file).flatMap((line) => /"number":(\d+),/.exec(line)?.[1] ?? []));
  assert.equal(report.checkpoints, numbers.size, 'none is missing');
});

test('while the database is away a checkpoint holds the own head and what was acknowledged', async (t) => {
  const directory = temporaryDirectory(t, 'checkpoint-away');
  const store = await checkpointStore(server, directory);
  const [before] = checkpointsIn(store.file).slice(-1) as [SignedCheckpoint];
  const url = new URL(store.writer);
  url.port = String(await freePort());
  const log = await openLog(directory, {
    database: { url: url.href },
    checkpoints: checkpointPlaces(store.file),
  });
  await log.record(decision(100));
  await log.close();
  const [{ checkpoint }] = checkpointsIn(store.file).slice(-1) as [SignedCheckpoint];
  assert.equal(checkpoint.omitted, null);
  assert.equal(checkpoint.own?.chain, log.chainId);
  assert.deepEqual(checkpoint.heads, before.checkpoint.heads, 'the head of the chain before, from the spool');
  const report = await verifyStore(store);
  assert.deepEqual(found(report), []);
  assert.ok(report.notes.includes('1 batches that writers had sealed are not stored yet'));
  await writeOnce(store, 200);
  const later = await verifyStore(store);
  assert.deepEqual(found(later), []);
  assert.ok(!later.notes.some((note) => note.includes('not stored yet')));
  const rows = await rowsOf(store.owner, 'select number::int from audit.checkpoint order by number');
  assert.deepEqual(
    rows.map(({ number }) => number as number),
    [1, 2, 3, 4, 5],
    'the last one from before is stored when the database is back',
  );
});

test('decisions go on when checkpoints cannot be written, and that is said', async (t) => {
  const directory = temporaryDirectory(t, 'checkpoint-full');
  const store = await checkpointStore(server, directory);
  const blocked = join(directory, 'audit-key.pem', 'checkpoints.jsonl');
  const checkpoints = { ...checkpointPlaces(blocked), everyMs: 20 };
  const warnings: string[] = [];
  const logger = Object.assign(Object.create(silentLogger) as typeof silentLogger, {
    warn: (_facts: unknown, message: string) => warnings.push(message),
  });
  const log = await openLog(directory, { database: { url: store.writer }, checkpoints, logger });
  t.after(() => log.close());
  const health = await eventually('the failure shows', () => {
    const [place] = log.health().checkpoints ?? [];
    return (place?.failures ?? 0) > 2 ? place : undefined;
  });
  assert.equal(health.place, 'file');
  assert.match(health.error ?? '', /ENOTDIR|EEXIST/);
  assert.equal(health.age_seconds, null);
  assert.ok((await log.record(decision(1))).seq > 0);
  assert.equal(warnings.filter((text) => text.includes('no checkpoint is written')).length, 1, 'once');
});

test('a login stores checkpoints in its own name only, and none twice in one place', async (t) => {
  const directory = temporaryDirectory(t, 'checkpoint-login');
  const store = await checkpointStore(server, directory);
  const [one, two] = checkpointsIn(store.file);
  const storeAs = async (url: string, { text, signature }: SignedCheckpoint): Promise<string> => {
    const [row] = await rowsOf(url, 'select audit.store_checkpoint($1, $2) as outcome', [text, signature]);
    return row!['outcome'] as string;
  };
  assert.equal(await storeAs(store.writer, one!), 'acknowledged');
  const key = readAuditKey(join(directory, 'audit-key.pem'));
  const rival = signCheckpoint(
    { ...two!.checkpoint, id: '019ab000-0000-7000-8000-000000000001', own: null },
    key,
  );
  assert.equal(await storeAs(store.writer, rival), 'differs');
  await ensureWriterRole(store.owner, 'writer_2', TEST_PASSWORD);
  const other = urlAs(store.owner, 'writer_2');
  assert.equal(await storeAs(other, rival), 'not_owner', 'the key is of chains of another login');
  await assert.rejects(
    rowsOf(other, `select audit.store_checkpoint('{}', '\\x00')`),
    /signature of 64 bytes/,
  );
  await assert.rejects(rowsOf(other, 'select * from audit.checkpoint'), /permission denied/);

  const heads = async (): Promise<unknown[]> =>
    (await rowsOf(other, 'select chain_id from audit.checkpoint_heads(10)')).map(
      (row) => row['chain_id'] as unknown,
    );
  assert.deepEqual(await heads(), [store.chains[2]]);
  await tamper(
    store.owner,
    `insert into audit.chain select (jsonb_populate_record(k, jsonb_build_object(
       'chain_id', '019ab000-0000-7000-8000-000000000002', 'owner', 'writer_2', 'prev_chain', k.chain_id))).*
     from audit.chain as k where k.chain_id = '${store.chains[2]!}'`,
  );
  assert.ok((await heads()).includes(store.chains[2]), 'a continuation by another login hides no chain');
  await rowsOf(store.owner, `insert into audit.site (login, site) values ('writer_2', 'elsewhere')`);
  assert.deepEqual(await heads(), [], 'a login that imports sees none');
});
