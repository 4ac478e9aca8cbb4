import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { DEFAULT_BUNDLE_FILE, developmentBundle, keySigner, signBundle } from '../../src/policy/index.ts';
import { writeFileAtomically } from '../../src/runtime/index.ts';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { dial, echo, readToEnd } from '../support/sockets.ts';

const KEPT = 60;
const DENIED = 12;

/** Asks and waits for the whole echo. */
const echoed = async (socket: Socket, text: string): Promise<void> => {
  socket.write(text);
  let got = '';
  while (got.length < text.length)
    got += String(await new Promise((resolve) => socket.once('data', resolve)));
  assert.equal(got, text);
};

test('an activation resets exactly the streams that it denies, and the others lose nothing', async (t) => {
  const target = await echo(t);
  const names = ['kept', 'denied'];
  const deployment = await createDeployment(t, {
    publish: Object.fromEntries(names.map((name) => [name, `127.0.0.1:${target.port}`])),
  });
  await deployment.startAll();
  const open = (name: string, count: number): Socket[] =>
    Array.from({ length: count }, () => dial(t, deployment.listenOf(name)));
  const kept = open('kept', KEPT);
  const denied = open('denied', DENIED);
  await Promise.all([...kept, ...denied].map((socket, index) => echoed(socket, `before ${index}`)));
  const ended = new Set<Socket>();
  for (const socket of kept) socket.once('close', () => ended.add(socket));
  const ends = denied.map((socket) => readToEnd(socket));
  // Bytes are under way on the streams that stay while the policy changes.
  const pieces = kept.map((socket, index) => echoed(socket, `${index} `.repeat(20_000)));

  const connections = names.map((name) => ({ name, host: '127.0.0.1', port: target.port }));
  const bundle = developmentBundle(readFileSync(DEFAULT_BUNDLE_FILE), connections, {
    sequence: 1_000,
    forbidden: ['denied'],
  });
  const signer = keySigner(readFileSync(join(deployment.directory, 'policy-signing.key'), 'utf8'));
  const file = join(deployment.directory, 'bundle.tar.gz');
  writeFileAtomically(file, await signBundle(bundle, signer, 'policy-1'));

  for (const { how } of await Promise.all(ends)) assert.notEqual(how, 'fin');
  await Promise.all(pieces);
  await Promise.all(kept.map((socket, index) => echoed(socket, `after ${index}`)));
  assert.equal(ended.size, 0);
  const closed = await eventually('each end is in the trail', async () => {
    const rows = await deployment.rows<{ connection: string; streams: number }>(
      "select connection, count(*)::int as streams from audit.streams where close_reason = 'policy_changed' group by 1",
    );
    return rows[0]?.streams === DENIED ? rows : undefined;
  });
  assert.deepEqual(closed, [{ connection: 'denied', streams: DENIED }]);
});
