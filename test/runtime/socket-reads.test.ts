import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import { giveChunk, READ_BYTES, randomBytes, readBuffers, SourceReader } from '../../src/runtime/index.ts';

const TIMEOUT = { timeout: 20_000 };

/** `near` was accepted by a server, which is the kind of socket that Node itself gives no `onread`. */
const pair = async (t: TestContext): Promise<{ near: Socket; far: Socket }> => {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection');
  const far = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' });
  const [near] = (await accepted) as [Socket];
  server.close();
  for (const socket of [near, far]) socket.on('error', () => undefined);
  t.after(() => {
    near.destroy();
    far.destroy();
  });
  return { near, far };
};

const collect = (socket: Socket): { bytes: () => Buffer; largest: () => number; reader: SourceReader } => {
  const chunks: Buffer[] = [];
  const reader = new SourceReader(socket, (chunk) => {
    chunks.push(Buffer.from(chunk));
    giveChunk(chunk);
  });
  return {
    bytes: () => Buffer.concat(chunks),
    largest: () => Math.max(...chunks.map((chunk) => chunk.length)),
    reader,
  };
};

test('an accepted socket is read whole, in large reads, into buffers that come back', TIMEOUT, async (t) => {
  const { near, far } = await pair(t);
  const content = randomBytes(8 * 1024 * 1024);
  const { bytes, largest } = collect(near);
  far.end(content);
  near.resume();
  await once(near, 'end');
  assert.ok(bytes().equals(content));
  assert.ok(largest() > 64 * 1024 && largest() <= READ_BYTES, `largest read ${largest()}`);
  near.end();
  await once(near, 'close');
  assert.equal(readBuffers.outsideCount, 0);
});

test('what a socket held before comes first', TIMEOUT, async (t) => {
  const { near, far } = await pair(t);
  near.unshift(Buffer.from('before '));
  far.end('after');
  const { bytes } = collect(near);
  near.resume();
  await once(near, 'end');
  assert.equal(bytes().toString(), 'before after');
});

test('a socket that is let go of is read by data as ever, and can be taken again', TIMEOUT, async (t) => {
  const { near, far } = await pair(t);
  const first = collect(near);
  near.resume();
  far.write('one');
  while (first.bytes().length < 3) await new Promise((resolve) => setImmediate(resolve));
  near.pause();
  first.reader.stop();
  far.write('two');
  const heard = once(near, 'data') as Promise<[Buffer]>;
  near.resume();
  assert.equal((await heard)[0].toString(), 'two');
  near.pause();
  const second = collect(near);
  far.end('three');
  near.resume();
  await once(near, 'end');
  assert.equal(first.bytes().toString(), 'one');
  assert.equal(second.bytes().toString(), 'three');
});

test('a paused socket is not read on, and a destroyed one keeps no buffer', TIMEOUT, async (t) => {
  const { near, far } = await pair(t);
  let reads = 0;
  const reader = new SourceReader(near, (chunk) => {
    reads += 1;
    giveChunk(chunk);
    near.pause();
  });
  assert.ok(reader instanceof SourceReader);
  far.write(Buffer.alloc(4 * 1024 * 1024));
  near.resume();
  while (reads === 0) await new Promise((resolve) => setImmediate(resolve));
  for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(reads, 1);
  assert.equal(readBuffers.outsideCount, 1);
  near.destroy();
  await once(near, 'close');
  assert.equal(readBuffers.outsideCount, 0);
});
