import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { patternAt } from '../../bench/load/pattern.ts';
import { eventually } from '../support/eventually.ts';
import { dial, listen } from '../support/sockets.ts';
import { startUp } from '../support/up.ts';

const GIB = 1024 ** 3;
const PIECE_BYTES = 256 * 1024;

/** Writes a gibibyte at the pace of the socket and ends; resolves with its digest. */
const send = async (socket: Socket): Promise<string> => {
  const hash = createHash('sha256');
  for (let sent = 0; sent < GIB; sent += PIECE_BYTES) {
    const piece = patternAt(sent, PIECE_BYTES);
    hash.update(piece);
    if (!socket.write(piece)) await once(socket, 'drain');
  }
  socket.end();
  return hash.digest('hex');
};

const receive = (socket: Socket): Promise<{ digest: string; bytes: number }> =>
  new Promise((resolve, reject) => {
    const hash = createHash('sha256');
    let bytes = 0;
    socket.on('data', (chunk) => {
      hash.update(chunk);
      bytes += chunk.length;
    });
    socket.once('error', reject);
    socket.once('end', () => resolve({ digest: hash.digest('hex'), bytes }));
  });

test('one gibibyte each way arrives with the same digest', async (t) => {
  let handle: (socket: Socket) => void = () => undefined;
  const target = await listen(t, (socket) => handle(socket));
  const up = await startUp(t, { publish: { bulk: `127.0.0.1:${target.port}` } });

  const arrivedUp = new Promise<{ digest: string; bytes: number }>((resolve, reject) => {
    handle = (socket) => {
      receive(socket).then((got) => {
        socket.end();
        resolve(got);
      }, reject);
    };
  });
  const uploader = dial(t, up.listenOf('bulk'));
  const uploaded = await send(uploader);
  assert.deepEqual(await arrivedUp, { digest: uploaded, bytes: GIB });

  let downloaded: Promise<string> | undefined;
  handle = (socket) => {
    socket.resume();
    downloaded = send(socket);
  };
  const downloader = dial(t, up.listenOf('bulk'));
  const got = await receive(downloader);
  downloader.end();
  assert.deepEqual(got, { digest: await downloaded, bytes: GIB });

  const closed = await eventually('both ends are recorded', async () => {
    const rows = await up.rows<{ bytes_up: string; bytes_down: string }>(
      `select bytes_up, bytes_down from audit.event
         where type = 'stream.close' and connection = 'bulk' order by occurred_at`,
    );
    return rows.length === 2 ? rows : undefined;
  });
  assert.deepEqual(
    closed.map((row) => [Number(row.bytes_up), Number(row.bytes_down)]),
    [
      [GIB, 0],
      [0, GIB],
    ],
  );
});
