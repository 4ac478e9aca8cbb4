import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TURN_MS, Turns } from '../../src/agent/turns.ts';

/** A clock that stands still but for what a piece takes. */
const rig = () => {
  let nowMs = 0;
  const turns = new Turns({ monotonicMs: () => nowMs });
  const piece = (takesMs: number) => (): number => {
    nowMs += takesMs;
    return nowMs;
  };
  return { turns, piece };
};

test('pieces run in order, and the event loop goes round once a turn is used up', async () => {
  const { turns, piece } = rig();
  const order: string[] = [];
  const other = (name: string): void => {
    setImmediate(() => order.push(name));
  };
  const pieces = Array.from({ length: 4 }, (_, index) =>
    turns.run(() => {
      order.push(`piece ${String(index)}`);
      return piece(TURN_MS / 2)();
    }),
  );
  other('other 1');
  setImmediate(() => other('other 2'));
  await Promise.all(pieces);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(order, ['piece 0', 'piece 1', 'other 1', 'piece 2', 'piece 3', 'other 2']);
});

test('a piece that takes longer than a turn has one of its own', async () => {
  const { turns, piece } = rig();
  let between = 0;
  const first = turns.run(piece(10 * TURN_MS));
  const second = turns.run(piece(0));
  setImmediate(() => (between += 1));
  assert.equal(await first, 10 * TURN_MS);
  assert.equal(between, 0);
  await second;
  assert.equal(between, 1);
});

test('what a piece adds runs behind what waits, and a failure is its own alone', async () => {
  const { turns } = rig();
  const order: string[] = [];
  let inner: Promise<unknown> = Promise.resolve();
  const failing = turns.run(() => {
    inner = turns.run(() => order.push('inner'));
    throw new Error('planned');
  });
  const rejecting = turns.run(() => Promise.reject(new Error('later')));
  const last = turns.run(() => order.push('last'));
  await assert.rejects(failing, /planned/);
  await assert.rejects(rejecting, /later/);
  await Promise.all([last, inner]);
  assert.deepEqual(order, ['last', 'inner']);
});
