import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { KEPT_MS, MAX_REVOCATIONS, MAX_TOLD_AT_LOGIN, RevocationSet } from '../../src/agent/revocations.ts';
import { isAppError, silentLogger } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';

const directoryFor = (t: { after(call: () => void): void }): string => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-revocations-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
};

const open = (directory: string, clock = new ManualClock()): RevocationSet =>
  new RevocationSet(directory, clock, silentLogger);

const noticeOf = (id: number) => ({ key_id: `k_${id}`, reason: 'key_revoked', revocation_id: `r${id}` });
const DAY_MS = 24 * 60 * 60 * 1_000;

test('a revocation holds at once and over a restart, with every node that told it', async (t) => {
  const directory = directoryFor(t);
  const set = open(directory);
  assert.equal(set.reasonFor('k_1'), undefined);
  assert.equal(set.add({ key_id: 'k_1', reason: 'key_rotated', revocation_id: 'r1' }, 'node-a'), 'new');
  assert.equal(set.reasonFor('k_1'), 'key_rotated');
  assert.equal(set.add({ key_id: 'k_1', reason: 'key_rotated', revocation_id: 'r1' }, 'node-b'), 'known');
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

test('a notice is dropped 30 days after it was last told, when a later full telling did not have it', (t) => {
  const directory = directoryFor(t);
  const clock = new ManualClock(1_000 * DAY_MS);
  const set = open(directory, clock);
  set.add(noticeOf(1), 'node-a');
  set.add(noticeOf(2), 'node-a');
  clock.advance(10 * DAY_MS);
  assert.equal(set.add(noticeOf(2), 'node-a'), 'known', 'told again at a login');
  const syncMs = clock.nowMs();
  clock.advance(KEPT_MS - 10 * DAY_MS);
  assert.equal(set.expire(syncMs), 0, 'not a moment before 30 days are over');
  clock.advance(1);
  assert.equal(set.expire(undefined), 0, 'without a telling nobody knows that it is not in force any more');
  assert.equal(set.expire(clock.nowMs() - KEPT_MS - DAY_MS), 0, 'a telling of before does not count');
  assert.equal(set.expire(syncMs), 1);
  assert.equal(set.reasonFor('k_1'), undefined);
  assert.equal(set.reasonFor('k_2'), 'key_revoked');

  const again = open(directory, clock);
  assert.deepEqual(
    again.all().map(({ key_id }) => key_id),
    ['k_2'],
    'on disk',
  );
  clock.advance(10 * DAY_MS - 1);
  assert.equal(again.expire(clock.nowMs()), 0, 'when it was last told is known over a restart');
  clock.advance(1);
  assert.equal(again.expire(clock.nowMs()), 1);
});

test('a telling that reached its bound drops nothing: it may have left out what is in force', (t) => {
  const clock = new ManualClock(1_000 * DAY_MS);
  const set = open(directoryFor(t), clock);
  set.add(noticeOf(0), 'node-a');
  clock.advance(KEPT_MS + DAY_MS);
  for (let id = 1; id < MAX_TOLD_AT_LOGIN; id += 1) set.add(noticeOf(id), 'node-a');
  const syncMs = clock.nowMs();
  assert.equal(set.expire(syncMs), 1, 'one short of it is a whole telling');
  set.add(noticeOf(0), 'node-a');
  clock.advance(KEPT_MS + DAY_MS);
  for (let id = 1; id <= MAX_TOLD_AT_LOGIN; id += 1) set.add(noticeOf(id), 'node-a');
  assert.equal(set.expire(clock.nowMs()), 0);
  assert.equal(set.reasonFor('k_0'), 'key_revoked');
});

test('at its bound nothing is forgotten and nothing is served, over a restart too, until there is room again', async (t) => {
  const directory = directoryFor(t);
  const clock = new ManualClock(1_000 * DAY_MS);
  const set = open(directory, clock);
  for (let id = 0; id < MAX_REVOCATIONS - 1; id += 1) set.add(noticeOf(id), 'node-a');
  assert.equal(set.isFull, false);
  set.add(noticeOf(MAX_REVOCATIONS - 1), 'node-a');
  assert.equal(set.isFull, true, 'before the first one that cannot be kept');
  assert.equal(set.add(noticeOf(MAX_REVOCATIONS), 'node-a'), 'unkept');
  assert.equal(set.reasonFor('k_0'), 'key_revoked', 'the oldest is as dead as ever');
  await nextTurn();
  const again = open(directory, clock);
  assert.equal(again.size, MAX_REVOCATIONS);
  assert.equal(again.isFull, true);
  set.forget('k_0');
  assert.equal(set.isFull, true, 'there is room, and one that was heard is not kept yet');
  assert.equal(set.add(noticeOf(MAX_REVOCATIONS), 'node-a'), 'new', 'told again');
  assert.equal(set.reasonFor(`k_${MAX_REVOCATIONS}`), 'key_revoked');
  clock.advance(KEPT_MS + DAY_MS);
  assert.equal(set.expire(clock.nowMs()), MAX_REVOCATIONS);
  assert.equal(set.isFull, false);
});
