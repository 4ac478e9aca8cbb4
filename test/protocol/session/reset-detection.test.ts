import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { endedByReset } from '../../../src/protocol/session/reset-detection.ts';
import { pattern, tcpPair } from './support.ts';

/** Writes to a paused socket, ends the connection in the given way, then reads: what the last event was. */
const endOf = async (
  t: TestContext,
  finish: (far: Socket) => void,
): Promise<{ event: string; near: Socket }> => {
  const { near, far } = await tcpPair(t);
  await new Promise((resolve) => far.write(pattern(100_000), resolve));
  finish(far);
  await once(far, far.destroyed ? 'close' : 'finish');
  near.resume();
  const event = await new Promise<string>((resolve) => {
    near.once('end', () => resolve('end'));
    near.once('error', () => resolve('error'));
  });
  return { event, near };
};

test('a reset behind unread bytes, which libuv calls an end, is told from one', async (t) => {
  const { event, near } = await endOf(t, (far) => far.resetAndDestroy());
  assert.ok(event === 'error' || endedByReset(near), `${event} after a reset`);
});

test('an orderly end is an end', async (t) => {
  const { event, near } = await endOf(t, (far) => far.end());
  assert.equal(event, 'end');
  assert.equal(endedByReset(near), false);
});

test('an orderly end after our own FIN is an end', async (t) => {
  const { near, far } = await tcpPair(t);
  near.end();
  far.resume();
  await once(far, 'end');
  near.resume();
  far.end();
  await once(near, 'end');
  assert.equal(endedByReset(near), false);
});
