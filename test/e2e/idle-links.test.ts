import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Scheduler } from 'fast-check';
import { temporaryDirectory } from '../support/temporary.ts';
import { MemoryWorld } from './memory-world.ts';

const IDLE_SECONDS = 30 * 60;
/** Loop turns that bytes of memory need from one end to the other and back. */
const TURNS = 8;
/** Until two streams are open; a start takes some hundred. */
const MOST_TURNS = 100_000;

const turns = async (count: number = TURNS): Promise<void> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** Everything happens in the order in which it began, as soon as the bytes before it have arrived. */
const inOrder = {
  schedule: async <T>(result: Promise<T>): Promise<T> => {
    await turns();
    return result;
  },
} as Scheduler;

test('streams that say nothing for half an hour are there afterwards, on the same links', async (t) => {
  const world = new MemoryWorld(inOrder, 'all', temporaryDirectory(t, 'idle'));
  t.after(() => world.close());
  world.start();
  for (let turn = 0; turn < MOST_TURNS && world.streams.live < 2; turn += 1) await turns(1);
  assert.deepEqual(world.streams, { reached: 2, live: 2 });
  const links = world.carriers.length;
  const bytes = (): number => world.carriers.reduce((sum, { bytesWritten }) => sum + bytesWritten, 0);
  const before = bytes();

  for (let second = 0; second < IDLE_SECONDS; second += 1) {
    world.clock.advance(1_000);
    await turns();
  }

  assert.deepEqual(world.streams, { reached: 2, live: 2 });
  assert.equal(world.carriers.length, links, 'no link was opened instead of another');
  assert.ok(bytes() > before, 'the links were asked whether they live');
  for (const [index, app] of world.apps.entries()) {
    const target = world.targets[index];
    const heard: string[] = [];
    for (const socket of [app, target]) socket?.on('data', (data: Buffer) => heard.push(String(data)));
    app.write('up');
    await turns(4 * TURNS);
    target?.write('down');
    await turns(4 * TURNS);
    assert.deepEqual(heard, ['up', 'down']);
  }
});
