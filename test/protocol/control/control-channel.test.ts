import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import {
  CONTROL_DEAD_MS,
  CONTROL_PING_MS,
  ControlChannel,
} from '../../../src/protocol/control/control-channel.ts';
import type { ControlMessage } from '../../../src/protocol/control/messages.ts';
import { type Clock, isAppError, silentLogger, systemClock } from '../../../src/runtime/index.ts';
import { ManualClock } from '../../support/manual-clock.ts';

/** A channel of ours at one end of a WebSocket, the bare WebSocket at the other. */
const connected = async (clock: Clock = systemClock, autoPong = true) => {
  const http = createServer().listen(0, '127.0.0.1');
  await once(http, 'listening');
  const server = new WebSocketServer({ server: http, autoPong });
  const socket = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}`);
  const [[peer]] = (await Promise.all([once(server, 'connection'), once(socket, 'open')])) as [
    [WebSocket],
    unknown,
  ];
  const messages: ControlMessage[] = [];
  let closed: (detail: string) => void = () => undefined;
  const end = new Promise<string>((resolve) => {
    closed = resolve;
  });
  const channel = new ControlChannel({
    socket,
    clock,
    logger: silentLogger,
    onMessage: (message) => messages.push(message),
    onClose: (detail) => closed(detail),
  });
  const said = async (): Promise<Record<string, unknown>> => {
    const [data] = (await once(peer, 'message')) as [Buffer];
    return JSON.parse(data.toString()) as Record<string, unknown>;
  };
  const close = (): void => {
    channel.destroy('test is over');
    peer.terminate();
    server.close();
    http.close();
  };
  return { channel, peer, messages, end, said, close };
};

test('a request is answered by the message that refers to it', async () => {
  const { channel, peer, messages, said, close } = await connected();
  const asked = said();
  const answer = channel.request('streams.query', {});
  const { id } = await asked;
  peer.send(JSON.stringify({ t: 'ack', id: 1, re: 999, found: true }));
  peer.send(JSON.stringify({ t: 'goaway', id: 2, deadline_ms: 5 }));
  peer.send(JSON.stringify({ t: 'streams.answer', id: 3, re: id, items: [] }));
  assert.equal((await answer).t, 'streams.answer');
  assert.deepEqual(
    messages.map(({ t }) => t),
    ['goaway'],
  );
  close();
});

test('an unknown type is answered with unsupported and the link goes on', async () => {
  const { channel, peer, said, close } = await connected();
  const answer = said();
  peer.send(JSON.stringify({ t: 'key.push', id: 41 }));
  const { t, re, code } = await answer;
  assert.deepEqual({ t, re, code }, { t: 'error', re: 41, code: 'unsupported' });
  assert.ok(channel.isOpen);
  close();
});

test('a malformed or binary message ends the link, and what waits for an answer fails', async () => {
  for (const bad of ['{', Buffer.from('{}')]) {
    const { channel, peer, end, close } = await connected();
    const waiting = channel.request('streams.query', {});
    peer.send(bad);
    await assert.rejects(waiting, (error) => isAppError(error, 'ERR_CONTROL_LINK_DOWN'));
    await end;
    assert.equal(channel.isOpen, false);
    await assert.rejects(channel.request('streams.query', {}));
    close();
  }
});

test('a request without an answer fails after its time', async () => {
  const clock = new ManualClock();
  const { channel, close } = await connected(clock);
  const waiting = channel.request('streams.query', {}, 1_000);
  clock.advance(1_000);
  await assert.rejects(waiting, (error) => isAppError(error, 'ERR_CONTROL_LINK_TIMEOUT'));
  close();
});

test('a ping goes out every 10 s; a link that answers none for 30 s is dead', async () => {
  const clock = new ManualClock();
  const { channel, peer, end, close } = await connected(clock, false);
  const pinged = once(peer, 'ping');
  clock.advance(CONTROL_PING_MS);
  await pinged;
  clock.advance(CONTROL_DEAD_MS - 1);
  assert.ok(channel.isOpen);
  clock.advance(CONTROL_PING_MS);
  assert.match(await end, /no pong/);
  close();
});

test('a link that answers its pings lives, and its round trip is known', async () => {
  const clock = new ManualClock();
  const { channel, peer, close } = await connected(clock);
  for (let seconds = 0; seconds < 120; seconds += 10) {
    const pinged = once(peer, 'ping');
    clock.advance(CONTROL_PING_MS);
    await pinged;
    const asked = once(peer, 'message');
    const answer = channel.request('streams.query', {});
    const [data] = (await asked) as [Buffer];
    const { id } = JSON.parse(data.toString()) as { id: number };
    peer.send(JSON.stringify({ t: 'streams.answer', id: seconds + 1, re: id, items: [] }));
    await answer;
  }
  assert.ok(channel.isOpen);
  assert.equal(channel.rttMs, 0);
  close();
});
