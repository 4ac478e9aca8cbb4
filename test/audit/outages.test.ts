// The audit database away, slow, or on a full disk while events go on, and a spool on a full disk.
// CHAOS_OUTAGE_SECONDS=600 for the long outage.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { tmpdir, userInfo } from 'node:os';
import { type AuditLog, type AuditLogOptions, ensureWriterRole, migrate } from '../../src/audit/index.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { type Closer, temporaryDirectory } from '../support/temporary.ts';
import {
  auditDatabase,
  decision,
  ending,
  MIGRATIONS,
  onDatabase,
  openLog,
  rowsOf,
  TEST_PASSWORD,
  urlAs,
} from './audit-fixture.ts';
import { verifyTwice } from './both-verifiers.ts';

const OUTAGE_MS = Number(process.env.CHAOS_OUTAGE_SECONDS ?? 3) * 1_000;
const DRAIN_MS = Math.max(60_000, OUTAGE_MS);
const FLUSH_MS = 60_000;
/** Streams of one step of the load, and the pause after each: about 1,000 events a second. */
const STEP_STREAMS = 5;
const STEP_MS = 10;
/** Age of the oldest event where nothing is wrong: a seal waits a quarter of a second, a round trip follows. */
const NORMAL_SECONDS = 2;

let server: TestPostgres;
before(async () => {
  server = await startPostgres({ durable: true });
});
after(async () => {
  await server.stop();
  for (const path of mounts) execFileSync('umount', [path]);
  for (const path of mounts) rmSync(path, { recursive: true, force: true });
});

/** File systems that a test mounted; the server may hold files on them until it ends. */
const mounts: string[] = [];

const opened = async (t: Closer, options: Partial<AuditLogOptions>): Promise<AuditLog> => {
  const log = await openLog(temporaryDirectory(t), options);
  t.after(() => log.close());
  return log;
};

/** Decisions that are acknowledged, and their ends, until it is stopped. */
const startLoad = (t: Closer, log: AuditLog) => {
  const acknowledged: string[] = [];
  let refused = 0;
  let isOn = true;
  let number = 0;
  const run = async (): Promise<void> => {
    while (isOn) {
      const step = Array.from({ length: STEP_STREAMS }, () => (number += 1));
      await Promise.all(
        step.map(async (stream) => {
          try {
            acknowledged.push((await log.record(decision(stream))).event_id);
            log.note(ending(stream));
          } catch {
            refused += 1;
          }
        }),
      );
      await pause(STEP_MS);
    }
  };
  const done = run();
  const stop = async (): Promise<void> => {
    isOn = false;
    await done;
  };
  t.after(stop);
  return {
    acknowledged,
    refused: () => refused,
    stop,
  };
};

const ageOf = (log: AuditLog): number => log.health().oldest_unacknowledged_seconds;

/** With the load going on, the backlog falls to nothing out of the ordinary. */
const drainsUnderLoad = (log: AuditLog): Promise<true> =>
  eventually(
    'the backlog is worked off under load',
    () => (log.health().database === 'ok' && ageOf(log) < NORMAL_SECONDS ? (true as const) : undefined),
    DRAIN_MS,
  );

/** Every acknowledged decision is there, once, and the store verifies. */
const nothingIsLost = async (owner: string, acknowledged: readonly string[]): Promise<void> => {
  const rows = await rowsOf(owner, "select event_id from audit.event where type = 'stream.decision'");
  const ids = rows.map(({ event_id: id }) => id as string);
  assert.equal(new Set(ids).size, ids.length, 'no duplicates');
  const stored = new Set(ids);
  const missing = acknowledged.filter((id) => !stored.has(id));
  assert.deepEqual(missing, [], `of ${acknowledged.length} acknowledged decisions`);
  const report = await verifyTwice({ databaseUrl: owner, columns: true });
  assert.deepEqual(
    report.findings.map(({ kind }) => kind),
    ['no_anchor'],
  );
};

test(`the database away for ${OUTAGE_MS} ms of load: all is kept, and the backlog drains under load`, async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const log = await opened(t, { database: { url: writer } });
  const load = startLoad(t, log);
  await eventually('load', () => (load.acknowledged.length > 100 ? true : undefined));
  t.after(() => server.resume());
  await server.pause();
  await eventually('the outage shows', () => (log.health().database === 'failing' ? true : undefined));
  const at = load.acknowledged.length;
  await pause(OUTAGE_MS);
  assert.ok(load.acknowledged.length > at, 'decisions go on');
  assert.ok(ageOf(log) * 1_000 > OUTAGE_MS / 2, `the oldest event is ${ageOf(log)} s old`);
  await server.resume();
  await drainsUnderLoad(log);
  await load.stop();
  assert.equal(load.refused(), 0);
  assert.equal(await log.flush(FLUSH_MS), true);
  await log.close();
  await nothingIsLost(owner, load.acknowledged);
});

for (const roundTripMs of [20, 200]) {
  test(`a database ${roundTripMs} ms away keeps up with the load`, async (t) => {
    const { owner, writer } = await auditDatabase(server);
    const proxy = await startTcpProxy(t, server.port, { delayMs: roundTripMs / 2 });
    const far = new URL(writer);
    far.port = String(proxy.port);
    const log = await opened(t, { database: { url: far.href } });
    const load = startLoad(t, log);
    await eventually('load', () => (load.acknowledged.length > 1_000 ? true : undefined), DRAIN_MS);
    proxy.stall();
    await eventually('a backlog', () => (log.health().unacknowledged_batches > 5 ? true : undefined));
    proxy.resume();
    await drainsUnderLoad(log);
    await load.stop();
    assert.equal(load.refused(), 0);
    assert.equal(await log.flush(FLUSH_MS), true);
    await log.close();
    await nothingIsLost(owner, load.acknowledged);
  });
}

test('a fork under load: a machine restored beside the one that runs; no event of either is lost, and verify names it', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const database = { url: writer };
  const [running, restored] = [temporaryDirectory(t), temporaryDirectory(t)];
  const log = await openLog(running, { database });
  t.after(() => log.close());
  const forked = log.chainId;
  const load = startLoad(t, log);
  await eventually('load', () => (load.acknowledged.length > 1_000 ? true : undefined));
  cpSync(running, restored, { recursive: true });
  const before = load.acknowledged.length;
  await eventually('more load', () => (load.acknowledged.length > before + 500 ? true : undefined));
  const twin = await openLog(restored, { database });
  t.after(() => twin.close());
  const twinLoad = startLoad(t, twin);
  await eventually('the fork shows', () => (twin.health().refused_chains === 1 ? true : undefined));
  const atFork = [load.acknowledged.length, twinLoad.acknowledged.length] as const;
  await eventually('both go on', () =>
    load.acknowledged.length > atFork[0] + 200 && twinLoad.acknowledged.length > atFork[1] + 200
      ? true
      : undefined,
  );
  for (const one of [load, twinLoad]) {
    await one.stop();
    assert.equal(one.refused(), 0);
  }
  for (const one of [log, twin]) {
    assert.equal(await one.flush(FLUSH_MS), true);
    await one.close();
  }
  assert.equal(log.health().refused_chains, 0, 'the one that wrote on in its chain is left alone');

  const stored = new Set(
    (await rowsOf(owner, 'select event_id from audit.event')).map(({ event_id: id }) => id as string),
  );
  assert.deepEqual(
    [...load.acknowledged, ...twinLoad.acknowledged].filter((id) => !stored.has(id)),
    [],
  );
  const aside = join(restored, 'spool', 'refused');
  const kept = readdirSync(aside).map((name) => readFileSync(join(aside, name), 'latin1'));
  assert.ok(kept.length > 0 && kept.every((bytes) => bytes.includes(forked)), 'set aside, not thrown away');
  const breaks = await rowsOf(
    owner,
    `select convert_from(canonical, 'UTF8')::jsonb #>> '{data,reason}' as reason from audit.event
      where type = 'audit.chain_break' order by recorded_at`,
  );
  assert.deepEqual(
    breaks.map(({ reason }) => reason as string),
    ['no_previous_spool', 'fork'],
  );
  const [alarms] = await rowsOf(owner, 'select fork_alarms from audit.chain where chain_id = $1', [forked]);
  assert.ok(Number(alarms?.fork_alarms) > 0);
  const report = await verifyTwice({ databaseUrl: owner, columns: true });
  const found = new Set(report.findings.map(({ kind }) => kind));
  // The twin's new chain continues the forked one after a seal that was refused, and so is not there.
  assert.deepEqual([...found].sort(), ['chain_truncated', 'no_anchor']);
  const truncated = report.findings.find(({ kind }) => kind === 'chain_truncated');
  assert.equal(truncated?.chain_id, forked);
});

/** A small file system in memory; undefined where this user may not mount one. */
const smallDisk = (mebibytes: number): string | undefined => {
  if (userInfo().uid !== 0) return undefined;
  const path = mkdtempSync(join(tmpdir(), 'sallyport-small-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', path], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  mounts.push(path);
  return path;
};

/** Leaves so many bytes free, or less where others write meanwhile; removing the file gives them back. */
const fillUp = (disk: string, leaveBytes: number): string => {
  const filler = join(disk, 'filler');
  const { bavail, bsize } = statfsSync(disk);
  try {
    writeFileSync(filler, Buffer.alloc(Math.max(0, bavail * bsize - leaveBytes)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  }
  return filler;
};

test('a spool on a full disk refuses decisions, loses none that it took, and takes them again', async (t) => {
  const disk = smallDisk(4);
  if (disk === undefined) {
    t.skip('a small file system needs root and mount');
    return;
  }
  const { owner, writer } = await auditDatabase(server);
  const options = { database: { url: writer }, spoolDir: join(disk, 'spool') };
  const log = await opened(t, options);
  const load = startLoad(t, log);
  await eventually('load', () => (load.acknowledged.length > 50 ? true : undefined));
  const filler = fillUp(disk, 64 * 1024);
  await eventually('decisions are refused', () => (load.refused() > 10 ? true : undefined));
  assert.equal(log.available(), false);
  assert.equal(log.health().spool, 'failed');
  rmSync(filler);
  const at = load.acknowledged.length;
  await eventually('decisions are taken again', () =>
    load.acknowledged.length > at + 50 ? true : undefined,
  );
  await drainsUnderLoad(log);
  await load.stop();
  assert.equal(await log.flush(FLUSH_MS), true);
  await log.close();
  await nothingIsLost(owner, load.acknowledged);
});

test('a database on a full disk: the spool keeps everything until there is room', async (t) => {
  const disk = smallDisk(64);
  if (disk === undefined) {
    t.skip('a small file system needs root and mount');
    return;
  }
  const space = join(disk, 'space');
  mkdirSync(space);
  chmodSync(disk, 0o711);
  execFileSync('chown', ['postgres', space]);
  const owner = await server.createDatabase('on_small_disk');
  await onDatabase(server.url, async (client) => {
    await client.query(`create tablespace small location '${space}'`);
    await client.query('alter database on_small_disk set tablespace small');
  });
  await migrate({ databaseUrl: owner, schema: 'audit', directory: MIGRATIONS, roles: true });
  await ensureWriterRole(owner, 'writer_1', TEST_PASSWORD);
  const log = await opened(t, { database: { url: urlAs(owner, 'writer_1') } });
  const load = startLoad(t, log);
  await eventually('load', () => (load.acknowledged.length > 50 ? true : undefined));
  const filler = fillUp(disk, 128 * 1024);
  await eventually(
    'the disk is full',
    () => /53100/.exec(log.health().database_error ?? '') ?? undefined,
    60_000,
  );
  const at = load.acknowledged.length;
  await eventually('decisions go on', () => (load.acknowledged.length > at + 50 ? true : undefined));
  rmSync(filler);
  await drainsUnderLoad(log);
  await load.stop();
  assert.equal(load.refused(), 0);
  assert.equal(await log.flush(FLUSH_MS), true);
  await log.close();
  await nothingIsLost(owner, load.acknowledged);
});
