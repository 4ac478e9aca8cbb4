import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { linkBuffers } from '../../../src/protocol/session/link-reader.ts';
import { readBuffers } from '../../../src/runtime/index.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { pattern, Received, tlsPair, tunnel, until } from './support.ts';

const TIMEOUT = { timeout: 30_000 };
const STREAMS = 4;
/** More than the kernel holds for a destination that reads nothing. */
const BYTES = 12 * 1024 * 1024;

const tlsTunnel = async (t: TestContext) => tunnel(t, { ends: await tlsPair(t) });

/** Reads nothing until `go`, then everything. */
const later = (socket: Socket): { go(): Received } => {
  socket.pause();
  return {
    go: () => {
      const received = new Received(socket);
      socket.resume();
      return received;
    },
  };
};

test('over TLS, bytes that slow destinations have not taken are never written over', TIMEOUT, async (t) => {
  const { open } = await tlsTunnel(t);
  const streams = [];
  for (let i = 0; i < STREAMS; i += 1) streams.push(await open());
  // Every other destination takes nothing at first: what is for it waits in the buffers that the link read into.
  const ends = streams.map((one, i) => ({
    up: i % 2 === 0 ? later(one.target) : new Received(one.target),
    down: i % 2 === 1 ? later(one.app) : new Received(one.app),
  }));
  streams.forEach((one, i) => {
    one.app.end(pattern(BYTES, i));
    one.target.end(pattern(BYTES, 100 + i));
  });
  const prompt = ends.flatMap(({ up, down }) => [up, down].filter((end) => end instanceof Received));
  let mostBuffers = 0;
  await until(() => {
    mostBuffers = Math.max(mostBuffers, linkBuffers.outsideCount);
    return prompt.every((end) => end.ended);
  });
  assert.ok(mostBuffers > 0, 'a busy link reads into a buffer of its own');
  const all = ends.map(({ up, down }) => ({
    up: up instanceof Received ? up : up.go(),
    down: down instanceof Received ? down : down.go(),
  }));
  await until(() => all.every(({ up, down }) => up.ended && down.ended));
  all.forEach(({ up, down }, i) => {
    assert.ok(up.content.equals(pattern(BYTES, i)), `upload ${i}`);
    assert.ok(down.content.equals(pattern(BYTES, 100 + i)), `download ${i}`);
  });
});

test('a link that has fallen quiet holds no buffer, nor do its sockets', TIMEOUT, async (t) => {
  const clock = new ManualClock();
  const { open } = tunnel(t, { ends: await tlsPair(t), clock });
  const one = await open();
  const [up, down] = [new Received(one.target), new Received(one.app)];
  one.app.write(pattern(BYTES));
  one.target.write(pattern(BYTES));
  await until(() => up.bytes === BYTES && down.bytes === BYTES);
  one.app.write('little');
  one.target.write('little');
  await until(() => up.bytes === BYTES + 6 && down.bytes === BYTES + 6);
  clock.advance(10_000);
  await until(() => linkBuffers.outsideCount === 0 && readBuffers.outsideCount === 0);
  assert.equal(one.outcome.end, undefined);
});

test('buffers come back from a link that is destroyed in the middle', TIMEOUT, async (t) => {
  const { open, gateway, left, right } = await tlsTunnel(t);
  const one = await open();
  one.target.pause();
  one.app.write(pattern(BYTES));
  await until(() => linkBuffers.outsideCount > 0);
  const gone = Promise.all([once(left, 'close'), once(right, 'close'), once(one.gatewaySocket, 'close')]);
  gateway.destroy('admin_closed');
  await gone;
  await until(() => linkBuffers.outsideCount === 0 && readBuffers.outsideCount === 0);
});
