import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  addSigner,
  detachRetained,
  ensureRetentionRole,
  openAuditKey,
  removableBefore,
  removeCheckpoints,
  requestRetention,
  retentionRecorded,
  revokeSigner,
  type VerifyReport,
} from '../../src/audit/index.ts';
import { readRequest, signRequest } from '../../src/audit/retention/request.ts';
import {
  checkpointLine,
  type SignedCheckpoint,
  signCheckpoint,
} from '../../src/audit/checkpoint/checkpoint.ts';
import { systemClock, uuidv7 } from '../../src/runtime/index.ts';
import { projectRoot, runCommand } from '../support/command.ts';
import { openLog, rowsOf, streamId, TEST_PASSWORD, tamper, urlAs } from './audit-fixture.ts';
import { runSecondVerifier, secondVerifierMissing, verifyTwice } from './both-verifiers.ts';
import { type Store, useSealedStore } from './sealed-store.ts';
import type { Closer } from '../support/temporary.ts';

const WAIT_MS = 30_000;
const FLUSH_MS = 20_000;
const DAY_MS = 24 * 3_600_000;
const KEEP_MS = 1;
const LOSS = ['leaves_missing', 'event_missing'];

const sealed = useSealedStore();

interface OldStore extends Store {
  readonly retention: string;
  readonly operatorKeyFile: string;
  readonly files: { readonly rootKeyFile: string; readonly trustFile: string };
}

/** The day on which the store was made: midnight may pass while the tests run. */
const STARTED_MS = systemClock.nowMs();
const dayOf = (daysAgo: number): string =>
  new Date(STARTED_MS - daysAgo * DAY_MS).toISOString().slice(0, 10).replaceAll('-', '');

/** Moves all batches of a chain to a day in the past, with partitions of its own, as if stored then. */
const storedOn = async (owner: string, chain: string, daysAgo: number): Promise<void> => {
  const day = dayOf(daysAgo);
  const partitions = ['event', 'seal_leaves'].flatMap((parent) => [
    `create table if not exists audit.${parent}_${day} partition of audit.${parent}
       for values from ('${day} 00:00:00+00') to ('${dayOf(daysAgo - 1)} 00:00:00+00')`,
    `alter table audit.${parent}_${day} owner to audit_owner`,
  ]);
  const moved = ['event', 'seal_leaves', 'seal'].map(
    (table) =>
      `update audit.${table} set recorded_at = recorded_at - make_interval(days => ${daysAgo}) where chain_id = '${chain}'`,
  );
  await tamper(owner, ...partitions, ...moved);
};

/** A store whose first chain is three days old, with an operator in its trust file and a login that retains. */
const oldStore = async (t: Closer): Promise<OldStore> => {
  const store = await sealed.copy(t);
  const files = { rootKeyFile: join(store.directory, 'root.pem'), trustFile: store.trustFile };
  const operatorKeyFile = join(store.directory, 'operator.pem');
  const { publicKey } = openAuditKey(operatorKeyFile);
  addSigner({ ...files, publicKey, kind: 'operator', name: 'olga', clock: systemClock });
  await storedOn(store.owner, store.chains[0] ?? '', 3);
  await ensureRetentionRole(store.owner, 'retention_1', TEST_PASSWORD);
  return { ...store, files, operatorKeyFile, retention: urlAs(store.owner, 'retention_1') };
};

/** Signs a request for everything that may go. */
const ask = async (s: OldStore, keepMs = KEEP_MS): Promise<string> => {
  const timeMs = systemClock.nowMs();
  const beforeMs = timeMs - keepMs;
  const removable = await removableBefore(s.retention, beforeMs);
  assert.notDeepEqual(removable.days, []);
  const request = await requestRetention({
    databaseUrl: s.retention,
    operatorKeyFile: s.operatorKeyFile,
    removable,
    timeMs,
    beforeMs,
    clock: systemClock,
  });
  return request.id;
};

/** Starts the writer, which looks for requests at its start, until it has recorded this one; or only for a moment. */
const record = async (s: OldStore, id: string): Promise<void> => {
  const log = await openLog(s.directory, {
    database: { url: urlAs(s.owner, 'writer_1') },
    trustFile: s.trustFile,
  });
  assert.equal(await retentionRecorded(s.retention, id, WAIT_MS, systemClock), true);
  assert.equal(await log.flush(FLUSH_MS), true);
  await log.close();
};

const remove = async (s: OldStore): Promise<string> => {
  const id = await ask(s);
  await record(s, id);
  await detachRetained(s.retention, id, false);
  return id;
};

const verify = (s: OldStore, options: object = {}): Promise<VerifyReport> =>
  verifyTwice({
    databaseUrl: s.owner,
    trustFile: s.trustFile,
    headFiles: s.heads,
    columns: true,
    keepMs: KEEP_MS,
    ...options,
  });

const kinds = (report: VerifyReport): string[] => [
  ...new Set(report.findings.map((finding) => finding.kind)),
];

test('what an operator had removed is missing without a finding, and the report says under whose signature', async (t) => {
  const s = await oldStore(t);
  const whole = await verify(s);
  assert.deepEqual(whole.findings, []);
  const id = await remove(s);
  const report = await verify(s);
  assert.deepEqual(report.findings, []);
  const [retained, ...others] = report.retained;
  assert.deepEqual(others, []);
  assert.deepEqual([retained?.retention_id, retained?.operator], [id, 'olga']);
  const [gone] = await rowsOf(
    s.owner,
    'select count(*)::int as batches, sum(event_count)::int as events from audit.seal where chain_id = $1',
    [s.chains[0]],
  );
  assert.deepEqual({ batches: retained?.batches, events: retained?.events }, gone);
  const tables = await rowsOf(s.owner, "select 1 from pg_class where relname like 'event\\_%\\_detached'");
  assert.equal(tables.length, 1);
  const answers = await rowsOf(s.owner, 'select retention_id, origin from audit.retained');
  assert.deepEqual(answers, [{ retention_id: id, origin: 'agent/agent-1' }]);
});

test('verify without --keep names each request; with a longer one than was kept the request does not hold', async (t) => {
  const s = await oldStore(t);
  await remove(s);
  assert.deepEqual(kinds(await verify(s, { keepMs: undefined })), ['retention_unaccepted']);
  const young = kinds(await verify(s, { keepMs: 400 * DAY_MS }));
  for (const kind of ['retention_too_young', ...LOSS]) assert.ok(young.includes(kind), young.join());
});

test('a second request confirms the first when its own record was removed', async (t) => {
  const s = await oldStore(t);
  await remove(s);
  const chains = await rowsOf(s.owner, 'select chain_id from audit.chain order by opened_at');
  for (const { chain_id: chain } of chains.slice(1)) await storedOn(s.owner, String(chain), 2);
  await remove(s);
  const report = await verify(s);
  assert.deepEqual(report.findings, []);
  assert.equal(report.retained.length, 2);
  // Without the second, nothing speaks for the first.
  await tamper(
    s.owner,
    'delete from audit.retention where retained_at = (select max(retained_at) from audit.retention)',
  );
  assert.ok(kinds(await verify(s)).includes('retention_unrecorded'));
});

test('nothing is detached before a sealed event names the request, nor twice, nor what it does not name', async (t) => {
  const s = await oldStore(t);
  const id = await ask(s);
  const refused = { code: 'ERR_AUDIT_RETENTION_REFUSED' };
  await assert.rejects(detachRetained(s.retention, id, true), refused);
  await record(s, id);
  const second = s.chains[1] ?? '';
  await tamper(
    s.owner,
    `update audit.seal set recorded_at = recorded_at - interval '3 days' where chain_id = '${second}' and batch_no = 1`,
  );
  await assert.rejects(detachRetained(s.retention, id, true), {
    ...refused,
    message: /does not cover batch 1/,
  });
  await tamper(
    s.owner,
    `update audit.seal set recorded_at = recorded_at + interval '3 days' where chain_id = '${second}' and batch_no = 1`,
  );
  assert.equal((await detachRetained(s.retention, id, true)).length, 2);
  await assert.rejects(detachRetained(s.retention, id, true), refused);
  assert.deepEqual(await rowsOf(s.owner, "select 1 from pg_class where relname like '%\\_detached'"), []);
  assert.deepEqual((await verify(s)).findings, []);
});

test('a writer records only what an operator of its trust file signed', async (t) => {
  const s = await oldStore(t);
  const wrong = { ...s, operatorKeyFile: join(s.directory, 'stranger.pem') };
  openAuditKey(wrong.operatorKeyFile);
  await ask(wrong);
  await ask({ ...s, operatorKeyFile: join(s.directory, 'audit-key.pem') });
  const good = await ask(s);
  // One request a look: two are refused by the first two starts.
  for (let start = 1; start <= 2; start += 1) {
    const log = await openLog(s.directory, {
      database: { url: urlAs(s.owner, 'writer_1') },
      trustFile: s.trustFile,
    });
    await log.flush(FLUSH_MS);
    await log.close();
  }
  await record(s, good);
  const [row] = await rowsOf(
    s.owner,
    "select count(*)::int as n from audit.event where type = 'audit.retained'",
  );
  assert.deepEqual(row, { n: 1 });
});

const forgeries: readonly {
  name: string;
  act: (s: OldStore, id: string) => Promise<void>;
  kinds: string[];
}[] = [
  {
    name: 'a record of retention that nobody signed',
    act: (s) => tamper(s.owner, "update audit.retention set signature = decode(repeat('00', 64), 'hex')"),
    kinds: ['retention_invalid', ...LOSS],
  },
  {
    name: 'the record taken away',
    act: (s) => tamper(s.owner, 'delete from audit.retention'),
    kinds: LOSS,
  },
  {
    name: 'a request signed by the key of a writer',
    act: async (s, id) => {
      const [row] = await rowsOf(s.owner, 'select canonical from audit.retention where retention_id = $1', [
        id,
      ]);
      const {
        id: requestId,
        time,
        before: until,
        previous,
        days,
        batches,
      } = readRequest(String(row?.canonical)) ?? assert.fail();
      const signed = signRequest(
        { id: requestId, time, before: until, previous, days, batches },
        openAuditKey(join(s.directory, 'audit-key.pem')),
      );
      await tamper(
        s.owner,
        `update audit.retention set signer = '${signed.request.signer}', canonical = convert_to('${signed.text}', 'UTF8'),
           signature = decode('${signed.signature.toString('hex')}', 'hex')`,
      );
    },
    kinds: ['retention_invalid', ...LOSS],
  },
  {
    name: 'an operator who was revoked before',
    act: (s) => {
      const { signer } = openAuditKey(s.operatorKeyFile);
      revokeSigner({
        ...s.files,
        signer,
        clock: { ...systemClock, nowMs: () => systemClock.nowMs() - DAY_MS },
      });
      return Promise.resolve();
    },
    kinds: ['retention_invalid', ...LOSS],
  },
  {
    name: 'more removed than the request names',
    act: (s) =>
      tamper(
        s.owner,
        `delete from audit.event where chain_id = '${s.chains[1] ?? ''}' and seq <= 200`,
        `delete from audit.seal_leaves where chain_id = '${s.chains[1] ?? ''}' and batch_no = 1`,
      ),
    kinds: LOSS,
  },
  {
    name: 'batches of another chain said to be of the removed day',
    act: (s) =>
      tamper(
        s.owner,
        `update audit.seal set recorded_at = recorded_at - interval '3 days' where chain_id = '${s.chains[1] ?? ''}' and batch_no = 1`,
        `delete from audit.event where chain_id = '${s.chains[1] ?? ''}' and seq <= 200`,
        `delete from audit.seal_leaves where chain_id = '${s.chains[1] ?? ''}' and batch_no = 1`,
      ),
    kinds: LOSS,
  },
  {
    name: 'the event taken away that recorded it',
    act: (s) => tamper(s.owner, "delete from audit.event where type = 'audit.retained'"),
    kinds: ['retention_unrecorded', ...LOSS],
  },
  {
    name: 'a seal taken away from what was removed',
    act: (s) =>
      tamper(s.owner, `delete from audit.seal where chain_id = '${s.chains[0] ?? ''}' and batch_no = 1`),
    kinds: ['seal_missing'],
  },
  {
    name: 'columns of the record changed',
    act: (s) => tamper(s.owner, "update audit.retention set before = before + interval '1 day'"),
    kinds: ['retention_invalid'],
  },
];

for (const forgery of forgeries) {
  test(`verify finds ${forgery.name}`, async (t) => {
    const s = await oldStore(t);
    const id = await remove(s);
    await forgery.act(s, id);
    const found = kinds(await verify(s));
    for (const kind of forgery.kinds) assert.ok(found.includes(kind), `${kind} in ${found.join()}`);
  });
}

test('a record counts by who signed it, and for the second verifier none counts by the trust file of another site', async (t) => {
  const s = await oldStore(t);
  await remove(s);
  await tamper(
    s.owner,
    ...['chain', 'event'].map(
      (table) =>
        `update audit.${table} set site = 'elsewhere' where chain_id in (select chain_id from audit.event where type = 'audit.retained')`,
    ),
  );
  assert.deepEqual((await verify(s)).findings, []);
  if (secondVerifierMissing !== false) return;
  const trust = ['--trust', s.trustFile, '--site-trust', `elsewhere=${s.trustFile}`];
  const { stdout } = await runSecondVerifier(['--database', s.owner, '--keep', '1ms', ...trust]);
  const found = kinds(JSON.parse(stdout) as VerifyReport);
  for (const kind of ['retention_unrecorded', ...LOSS]) assert.ok(found.includes(kind), found.join());
});

/** Ages of checkpoints: two of the removed time, two of a clock that is ahead, because the store was sealed just now. */
const AGES_DAYS = [4, 3, -1, -2];

interface WithCheckpoints extends OldStore {
  readonly file: string;
  readonly ids: readonly string[];
}

/** A series of checkpoints over days, in a file and in the database; and the only one of another series, as old as the first. */
const withCheckpoints = async (t: Closer): Promise<WithCheckpoints> => {
  const s = await oldStore(t);
  const key = openAuditKey(join(s.directory, 'audit-key.pem'));
  const made: SignedCheckpoint[] = [];
  const sign = (series: string, daysAgo: number, last: SignedCheckpoint | undefined): SignedCheckpoint => {
    const nowMs = (): number => STARTED_MS - daysAgo * DAY_MS;
    const time = new Date(nowMs()).toISOString();
    const number = (last?.checkpoint.number ?? 0) + 1;
    const prev = last?.digest.toString('hex') ?? null;
    const stored = last?.checkpoint.id ?? null;
    const id = uuidv7({ ...systemClock, nowMs });
    return signCheckpoint({ id, series, number, prev, stored, time, own: null, heads: [], omitted: 0 }, key);
  };
  for (const days of AGES_DAYS) made.push(sign(streamId(7001), days, made.at(-1)));
  const alone = sign(streamId(7002), 4, undefined);
  await tamper(
    s.owner,
    ...[...made, alone].map(
      ({ checkpoint, text, signature }) =>
        `insert into audit.checkpoint (checkpoint_id, series, number, made_at, signer, signature, canonical, owner, recorded_at)
         values ('${checkpoint.id}', '${checkpoint.series}', ${checkpoint.number}, '${checkpoint.time}', '${checkpoint.signer}',
           decode('${signature.toString('hex')}', 'hex'), convert_to('${text}', 'UTF8'), 'writer_1', '${checkpoint.time}')`,
    ),
  );
  const file = join(s.directory, 'checkpoints.jsonl');
  writeFileSync(file, made.map((one) => `${checkpointLine(one)}\n`).join(''));
  return { ...s, file, ids: [...made, alone].map(({ checkpoint }) => checkpoint.id) };
};

const idsLeft = async (s: OldStore): Promise<string[]> =>
  (await rowsOf(s.owner, 'select checkpoint_id from audit.checkpoint')).map((row) =>
    String(row['checkpoint_id']),
  );

test('checkpoints of the removed time go, the last one of a series stays, and verify misses none of them', async (t) => {
  const s = await withCheckpoints(t);
  const [first, second, third, last, alone] = s.ids;
  await assert.rejects(removeCheckpoints(s.retention, streamId(1)), { code: 'ERR_AUDIT_RETENTION_REFUSED' });
  const given = { checkpointFiles: [s.file] };
  assert.deepEqual((await verify(s, given)).findings, []);
  const id = await remove(s);
  assert.equal(await removeCheckpoints(s.retention, id), 2);
  assert.equal(await removeCheckpoints(s.retention, id), 0);
  assert.deepEqual((await idsLeft(s)).sort(), [third, last, alone].sort());
  const report = await verify(s, given);
  assert.deepEqual([report.findings, report.checkpoints], [[], AGES_DAYS.length]);
  // Not for whom another time was promised, and not without the request.
  assert.deepEqual(
    kinds(await verify(s, { ...given, keepMs: 400 * DAY_MS })).includes('checkpoint_missing'),
    true,
  );
  await tamper(s.owner, 'delete from audit.retention');
  const missing = (await verify(s, given)).findings.filter(({ kind }) => kind === 'checkpoint_missing');
  assert.deepEqual(
    [missing.length, missing.every(({ message }) => [first, second].some((one) => message.includes(one!)))],
    [2, true],
  );
});

test('a checkpoint that retention is not for is missed, and the database lets none of those go', async (t) => {
  const s = await withCheckpoints(t);
  const [, , third, last, alone] = s.ids;
  const one = (id: string | undefined): Promise<unknown> =>
    rowsOf(s.owner, 'delete from audit.checkpoint where checkpoint_id = $1', [id]);
  for (const id of s.ids) await assert.rejects(one(id), /append-only/);
  const request = await remove(s);
  for (const id of [third, last, alone]) await assert.rejects(one(id), /append-only/);
  await assert.rejects(rowsOf(s.owner, "update audit.checkpoint set owner = 'x'"), /append-only/);
  await assert.rejects(rowsOf(s.owner, 'truncate audit.checkpoint'), /append-only/);
  await removeCheckpoints(s.retention, request);
  await tamper(s.owner, `delete from audit.checkpoint where checkpoint_id = '${third}'`);
  const report = await verify(s, { checkpointFiles: [s.file] });
  assert.deepEqual(kinds(report), ['checkpoint_missing']);
});

test("a request of another store's operator is not recorded", async (t) => {
  const one = await oldStore(t);
  const id = await remove(one);
  const other = await oldStore(t);
  const [row] = await rowsOf(
    one.owner,
    'select canonical, signature from audit.retention where retention_id = $1',
    [id],
  );
  const log = await openLog(other.directory, {
    database: { url: urlAs(other.owner, 'writer_1') },
    trustFile: other.trustFile,
  });
  await rowsOf(other.retention, 'select audit.request_retention($1, $2)', [
    String(row?.canonical),
    row?.signature,
  ]);
  await log.close();
  const again = await openLog(other.directory, {
    database: { url: urlAs(other.owner, 'writer_1') },
    trustFile: other.trustFile,
  });
  await again.flush(FLUSH_MS);
  await again.close();
  assert.deepEqual(await rowsOf(other.owner, "select 1 from audit.event where type = 'audit.retained'"), []);
});

test('the command asks, waits for a writer, detaches, and says what verify then needs', async (t) => {
  const s = await oldStore(t);
  const sallyport = (...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> =>
    runCommand(process.execPath, [join(projectRoot, 'bin/sallyport'), 'audit', ...args]);
  const retain = (...args: string[]): ReturnType<typeof sallyport> =>
    sallyport('retain', '--database', s.retention, ...args);
  assert.match((await retain('--ahead', '20')).stdout, /there for 20 days ahead/);
  assert.match((await retain('--keep', '400d', '--dry-run')).stdout, /nothing to remove/);
  assert.match(
    (await retain('--keep', '400d', '--dry-run')).stdout,
    /only whole past days \(UTC\) go; the oldest day here is \d{4}-\d\d-\d\d, with --keep 400d it can go from \d{4}-\d\d-\d\dT00:00:00\.000Z on/,
  );
  const writerKey = join(s.directory, 'audit-key.pem');
  const mistaken = await retain('--keep', '1s', '--operator-key', writerKey, '--trust', s.trustFile);
  assert.equal(mistaken.code, 2, mistaken.stderr);
  assert.match(mistaken.stderr, /audit-key\.pem is the key of \w+ \S+ in .*, not of an operator/);
  const key = ['--operator-key', s.operatorKeyFile];
  const late = await retain('--keep', '1s', ...key, '--wait', '0s');
  assert.equal(late.code, 1);
  const id = /retain --request (\S+)/.exec(late.stdout)?.[1] ?? assert.fail(late.stdout + late.stderr);
  await record(s, id);
  assert.match((await retain('--request', id)).stdout, /2 partitions detached/);
  const verify = (...args: string[]): ReturnType<typeof sallyport> =>
    sallyport('verify', '--database', s.owner, '--trust', s.trustFile, '--heads', ...s.heads, ...args);
  assert.deepEqual([(await verify()).code, (await verify('--keep', '1s')).code], [1, 0]);
});
