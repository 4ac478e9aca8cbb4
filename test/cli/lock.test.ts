import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { lockHolder, takeLock } from '../../src/cli/up/lock.ts';
import { identityOf, isAlive } from '../../src/cli/up/process-identity.ts';

const directoryOf = (t: TestContext): string => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-lock-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
};

test('a second taker is refused with the pid that has it', (t) => {
  const directory = directoryOf(t);
  const release = takeLock(directory);
  assert.throws(() => takeLock(directory), {
    code: 'ERR_CLI_STATE_LOCKED',
    message: new RegExp(`process ${process.pid}\\)`),
  });
  assert.equal(lockHolder(directory)?.pid, process.pid);
  release();
  assert.equal(lockHolder(directory), undefined);
  takeLock(directory)();
  assert.deepEqual(readdirSync(directory), []);
});

test('what a killed process left is taken over, also when another process has its number now', async (t) => {
  const directory = directoryOf(t);
  const child = spawn(process.execPath, ['-e', 'setInterval(() => 0, 1000)']);
  await once(child, 'spawn');
  const dead = identityOf(child.pid!);
  assert.ok(isAlive(dead));
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.ok(!isAlive(dead));
  writeFileSync(join(directory, 'lock'), JSON.stringify(dead));
  takeLock(directory)();
  writeFileSync(join(directory, 'lock'), JSON.stringify({ pid: process.pid, started: '1' }));
  takeLock(directory)();
  writeFileSync(join(directory, 'lock'), 'not a lock');
  const release = takeLock(directory);
  assert.equal(lockHolder(directory)?.pid, process.pid);
  release();
  assert.ok(!existsSync(join(directory, 'lock')));
});
