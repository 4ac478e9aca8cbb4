import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { RevocationSet } from '../../src/agent/revocations.ts';
import { isAppError, silentLogger } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';

const directoryFor = (t: { after(call: () => void): void }): string => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-revocations-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

const open = (directory: string): RevocationSet =>
  new RevocationSet(directory, new ManualClock(), silentLogger);

test('a revocation holds at once and over a restart, with every node that told it', async (t) => {
  const directory = directoryFor(t);
  const set = open(directory);
  assert.equal(set.reasonFor('k_1'), undefined);
  assert.equal(set.add({ key_id: 'k_1', reason: 'key_rotated', revocation_id: 'r1' }, 'node-a'), true);
  assert.equal(set.reasonFor('k_1'), 'key_rotated');
  assert.equal(set.add({ key_id: 'k_1', reason: 'key_rotated', revocation_id: 'r1' }, 'node-b'), false);
  await nextTurn();
  const again = open(directory);
  assert.equal(again.reasonFor('k_1'), 'key_rotated');
  assert.equal(again.reasonFor('k_2'), undefined);
  const text = readFileSync(join(directory, 'revocations.json'), 'utf8');
  assert.match(text, /"nodes":\["node-a","node-b"\]/);
  assert.equal(statSync(join(directory, 'revocations.json')).mode & 0o777, 0o600);
});

test('a reason that this build does not know is key_revoked', (t) => {
  const set = open(directoryFor(t));
  set.add({ key_id: 'k_1', reason: 'something_new', revocation_id: 'r1' }, 'node-a');
  assert.equal(set.reasonFor('k_1'), 'key_revoked');
});

test('an agent does not start over revocations that it cannot read', (t) => {
  const directory = directoryFor(t);
  writeFileSync(join(directory, 'revocations.json'), '{"v":1,');
  assert.throws(
    () => open(directory),
    (error) => isAppError(error, 'ERR_AGENT_STATE'),
  );
});
