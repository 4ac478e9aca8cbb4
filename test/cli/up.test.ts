import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import pg from 'pg';
import type { ReadyFile } from '../../src/cli/ready-file.ts';
import { identityOf, isAlive, waitForEnd } from '../../src/cli/up/process-identity.ts';
import type { SelfTestResult } from '../../src/cli/up/self-test.ts';
import { systemClock } from '../../src/runtime/index.ts';

const BIN = join(import.meta.dirname, '..', '..', 'bin', 'sallyport');
const START_DEADLINE_MS = 120_000;
const END_DEADLINE_MS = 30_000;

interface Running {
  readonly child: ChildProcess;
  readonly ready: Promise<ReadyFile>;
  readonly ended: Promise<unknown[]>;
  readonly output: () => string;
}

const stateOf = (t: TestContext): string => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-up-'));
  // As root, PostgreSQL runs as another user; let that one in, or its data goes to /var/lib and stays there.
  chmodSync(directory, 0o755);
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

const readyFileOf = (directory: string): string => join(directory, 'told.json');

const start = (t: TestContext, directory: string, ...more: readonly string[]): Running => {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^SALLYPORT_|^DATABASE_URL$/.test(name)),
  );
  const told = readyFileOf(directory);
  const ready = new Promise<ReadyFile>((resolve, reject) => {
    const deadline = setTimeout(() => reject(new Error(`not ready: ${text}`)), START_DEADLINE_MS);
    const watcher = watch(directory, (_, name) => {
      if (name !== 'told.json') return;
      try {
        resolve(JSON.parse(readFileSync(told, 'utf8')) as ReadyFile);
      } catch (error) {
        if ((error as { code?: string }).code === 'ENOENT') return;
        reject(error instanceof Error ? error : new Error('unreadable'));
      }
      clearTimeout(deadline);
      watcher.close();
    });
    t.after(() => {
      clearTimeout(deadline);
      watcher.close();
    });
  });
  ready.catch(() => undefined);
  let text = '';
  const child = spawn(
    process.execPath,
    [BIN, '--json', 'up', '--state', join(directory, 'state'), '--ready-file', told, ...more],
    { env, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
  const ended = once(child, 'close');
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM');
    await ended;
  });
  return { child, ready, ended, output: () => text };
};

test('`up --self-test` opens, denies, half-closes, revokes, verifies, stops and exits 0', async (t) => {
  const directory = stateOf(t);
  const up = start(t, directory, '--self-test');
  assert.deepEqual(await up.ended, [0, null], up.output());
  const result = JSON.parse(up.output()) as SelfTestResult;
  assert.deepEqual(
    result.checks.map(({ name, ok }) => [name, ok]),
    ['open', 'deny', 'half_close', 'revoke', 'verify'].map((name) => [name, true]),
  );
  assert.ok(result.ok);
});

test('`up` killed -9: its processes end by themselves, and the next start goes on with the same state', async (t) => {
  const directory = stateOf(t);
  const first = start(t, directory);
  const before = await first.ready;
  const { relay, agent, gateway, postgres } = before.pids;
  const left = [relay, agent, gateway, postgres ?? 0].map(identityOf);
  assert.ok(left.every(isAlive));
  first.child.kill('SIGKILL');
  await first.ended;
  for (const identity of left) assert.ok(await waitForEnd(identity, END_DEADLINE_MS, systemClock));

  rmSync(readyFileOf(directory));
  const second = start(t, directory);
  const after = await second.ready;
  const relayUrl = readFileSync(join(after.state_dir, 'control-database.url'), 'utf8').trim();
  const relayDatabase = new pg.Client({ connectionString: relayUrl });
  relayDatabase.on('error', () => undefined);
  await relayDatabase.connect();
  await assert.rejects(relayDatabase.query('drop table control.revocation'), /must be owner/);
  await assert.rejects(relayDatabase.query('select from audit.event'), /permission denied/);
  await relayDatabase.end();
  assert.deepEqual(after.connections, before.connections);
  assert.equal(after.database_url, before.database_url);
  second.child.kill('SIGINT');
  assert.deepEqual(await second.ended, [0, null], second.output());
  const all = Object.values(after.pids).map((pid) => identityOf(pid ?? 0));
  assert.ok(
    all.every((identity) => identity.started === ''),
    'nothing runs on',
  );
});

test('a process of `up` that dies is started again, and the ready file names the new one', async (t) => {
  const directory = stateOf(t);
  const up = start(t, directory);
  const before = await up.ready;
  const changed = new Promise<ReadyFile>((resolve) => {
    const watcher = watch(directory, (_, name) => {
      if (name !== 'told.json') return;
      const now = JSON.parse(readFileSync(readyFileOf(directory), 'utf8')) as ReadyFile;
      if (now.pids.gateway === before.pids.gateway) return;
      watcher.close();
      resolve(now);
    });
    t.after(() => watcher.close());
  });
  process.kill(before.pids.gateway, 'SIGKILL');
  const now = await changed;
  assert.ok(isAlive(identityOf(now.pids.gateway)));
  assert.match(up.output(), /the gateway died \(killed by SIGKILL\); starting it again/);
  assert.deepEqual({ ...now.pids, gateway: 0 }, { ...before.pids, gateway: 0 });
});
