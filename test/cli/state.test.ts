import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { findRunningUp, requireRunningUp } from '../../src/cli/ready-file.ts';
import { takeLock } from '../../src/cli/up/lock.ts';
import { choosePort } from '../../src/cli/up/port.ts';
import { openStateDirectory, passwordOf, readState, writeState } from '../../src/cli/up/state.ts';

const directoryOf = (t: TestContext): string => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-state-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
};

test('state is kept for the owner alone, and read back', (t) => {
  const paths = openStateDirectory(join(directoryOf(t), 'state'));
  const state = readState(paths);
  const password = passwordOf(state, 'role');
  assert.equal(passwordOf(state, 'role'), password);
  assert.ok(password.length >= 32);
  state.ports['relay'] = 4711;
  writeState(paths, state);
  assert.deepEqual(readState(openStateDirectory(paths.root)), state);
  assert.equal(statSync(paths.stateFile).mode & 0o777, 0o600);
});

test('unreadable state is named, and never quoted', (t) => {
  const directory = directoryOf(t);
  const paths = openStateDirectory(directory);
  writeFileSync(paths.stateFile, '{"passwords": {"sallyport": "hunter2"');
  assert.throws(
    () => readState(paths),
    (error: Error) => {
      assert.match(error.message, /state\.json: it is not JSON/);
      assert.doesNotMatch(error.message, /hunter2/);
      return true;
    },
  );
  writeFileSync(paths.stateFile, '{"version": 2}');
  assert.throws(() => readState(paths), { code: 'ERR_CLI_STATE', message: /version/ });
  writeFileSync(join(directory, 'file'), '');
  assert.throws(() => openStateDirectory(join(directory, 'file')), { code: 'ERR_CLI_STATE' });
  assert.throws(() => openStateDirectory(join(directory, 'file', 'below')), { code: 'ERR_CLI_STATE' });
});

test('a remembered port is kept while it is free', async (t) => {
  const { port } = await choosePort(undefined);
  assert.deepEqual(await choosePort(port), { port, changed: false });
  const server = createServer();
  await new Promise<void>((resolve) => {
    server.listen(port, '127.0.0.1', () => resolve());
  });
  t.after(() => server.close());
  const other = await choosePort(port);
  assert.ok(other.changed);
  assert.notEqual(other.port, port);
});

test('a new port is none that was chosen for something else and is not listened at yet', async () => {
  const range = Array.from({ length: 32_768 - 20_000 }, (_, index) => 20_000 + index);
  const [only] = range.splice(4_711, 1);
  const chosen = await Promise.all(
    Array.from({ length: 8 }, () => choosePort(undefined, '127.0.0.1', new Set(range))),
  );
  for (const { port } of chosen) assert.ok(port === only || port > 32_767, `port ${port}`);
});

test('a ready file counts only while its `up` runs', (t) => {
  const directory = directoryOf(t);
  assert.equal(findRunningUp(directory), undefined);
  writeFileSync(join(directory, 'ready.json'), '{}');
  assert.equal(findRunningUp(directory), undefined);
  assert.throws(() => requireRunningUp(directory), {
    code: 'ERR_CLI_NO_UP',
    message: /^--tunnel goes through .*leave --tunnel out and give --database/,
  });
  const release = takeLock(directory);
  t.after(release);
  assert.throws(() => findRunningUp(directory), { code: 'ERR_CLI_STATE' });
  rmSync(join(directory, 'ready.json'));
  assert.equal(findRunningUp(directory), undefined);
});
