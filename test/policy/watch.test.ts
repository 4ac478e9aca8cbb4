import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileWatch } from '../../src/policy/bundle/watch.ts';
import { type Clock, systemClock } from '../../src/runtime/index.ts';
import { eventually } from '../support/eventually.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** Nothing is found by looking every few seconds: only what the file system tells counts. */
const withoutPeriod: Clock = { ...systemClock, every: (_ms, call) => systemClock.every(2 ** 30, call) };

test('a file whose directory does not exist yet is seen as soon as it comes, and after the directory was replaced', async (t) => {
  const root = temporaryDirectory(t, 'watch');
  const directory = join(root, 'etc', 'sallyport');
  const file = join(directory, 'managed.yaml');
  let calls = 0;
  const watch = new FileWatch([file], withoutPeriod, () => (calls += 1));
  t.after(() => watch.close());
  await watch.remember();
  const seen = (what: string, before: number): Promise<true> =>
    eventually(what, () => (calls > before ? true : undefined));

  mkdirSync(directory, { recursive: true });
  writeFileSync(file, 'a');
  await seen('the file in its new directory', 0);
  let before = calls;
  writeFileSync(join(directory, 'new'), 'longer');
  renameSync(join(directory, 'new'), file);
  await seen('the replaced file', before);
  before = calls;
  rmSync(directory, { recursive: true });
  await seen('its end', before);
  before = calls;
  mkdirSync(directory);
  writeFileSync(file, 'again');
  await seen('the file of another directory of that name', before);
  assert.ok(calls >= 4);
});
