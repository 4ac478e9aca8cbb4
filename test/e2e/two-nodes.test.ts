import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { patternAt } from '../../bench/load/pattern.ts';
import { endedByReset } from '../../src/protocol/session/reset-detection.ts';
import type { Role } from '../support/deployment.ts';
import { startGateway } from '../support/second-gateway.ts';
import { createTwoNodes, everybodyAtBoth, TWO_NODES } from '../support/two-nodes.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, dial, echo, holdStreams, listen, readToEnd } from '../support/sockets.ts';

const DEADLINE_MS = 30_000;
const STREAMS = 12;
const TRANSFERS = 4;
const PIECE_BYTES = 64 * 1024;
const MOVING_BYTES = 4 * 1024 * 1024;

interface Link {
  readonly link_id: string;
  readonly node: string;
}

test('two relay nodes: a node that dies takes its streams along, new ones go to the other at once', async (t) => {
  const target = await echo(t);
  const deployment = await createTwoNodes(t, target.port);
  await deployment.startAll();
  await everybodyAtBoth(deployment, 'relay-a');
  const address = deployment.listenOf('shop');
  const ask = (text: string): Promise<string> => askOnce(t, address, text);
  assert.equal(await ask('first'), 'first');

  const linksAt = async (role: Role): Promise<number> => {
    const { stdout } = await deployment.command(
      'link',
      'list',
      '--json',
      '--admin',
      deployment.adminUrlOf(role),
    );
    return (JSON.parse(stdout) as Link[]).length;
  };
  const carrying = async (): Promise<Role> => {
    const counts = await Promise.all((['relay-a', 'relay-b'] as const).map((role) => linksAt(role)));
    return (counts[0] ?? 0) > 0 ? 'relay-a' : 'relay-b';
  };

  const held = await holdStreams(t, address, STREAMS);
  const node = await carrying();
  const other: Role = node === 'relay-a' ? 'relay-b' : 'relay-a';

  await t.test(
    'killed -9: its streams are reset, and the next one works without waiting for anything',
    async () => {
      const ends = held.map((socket) => readToEnd(socket, DEADLINE_MS));
      await deployment.kill(node);
      for (const end of await Promise.all(ends)) assert.equal(end.how, 'ECONNRESET');
      assert.equal(await ask('after'), 'after');
      assert.ok((await linksAt(other)) > 0);
    },
  );

  await t.test('what its streams died of is in the evidence, at the agent', async () => {
    const reasons = await eventually(
      'the ends are recorded',
      async () => {
        const rows = await deployment.rows<{ close_reason: string; n: number }>(
          `select close_reason, count(*)::int as n from audit.event
            where type = 'stream.close' and close_reason <> 'client_fin' group by 1`,
        );
        if (rows.reduce((sum, { n }) => sum + n, 0) < STREAMS) throw new Error(JSON.stringify(rows));
        return rows;
      },
      DEADLINE_MS,
    );
    assert.ok(
      reasons.every(({ close_reason }) => close_reason === 'link_lost'),
      JSON.stringify(reasons),
    );
  });

  await t.test('it comes back, and carries everything when the other one goes', async () => {
    deployment.start(node);
    await deployment.ready(node);
    await everybodyAtBoth(deployment, node);
    assert.equal(await ask('both'), 'both');
    await deployment.kill(other);
    assert.equal(
      await eventually('a stream over the node that came back', () => ask('back'), DEADLINE_MS),
      'back',
    );
  });
});

test('a node that is stopped in good order refuses no stream', async (t) => {
  const target = await echo(t);
  const deployment = await createTwoNodes(t, target.port, {
    edit: {
      'relay-a': (settings) => (settings.drain_seconds = 3),
      'relay-b': (settings) => (settings.drain_seconds = 3),
    },
  });
  await deployment.startAll();
  const address = deployment.listenOf('shop');
  let stopping = false;
  let asked = 0;
  const failures: unknown[] = [];
  const load = Array.from({ length: 4 }, async (_, lane) => {
    while (!stopping) {
      const text = `${lane}-${asked}`;
      asked += 1;
      await askOnce(t, address, text).then(
        (answer) => assert.equal(answer, text),
        (error: unknown) => failures.push(error),
      );
    }
  });
  await everybodyAtBoth(deployment, 'relay-a');
  await eventually('streams flow', () => (asked > 50 ? true : undefined), DEADLINE_MS);
  for (const role of ['relay-a', 'relay-b'] as const) {
    await deployment.process(role).end('SIGTERM');
    const before = asked;
    await eventually('streams go on', () => (asked > before + 50 ? true : undefined), DEADLINE_MS);
    deployment.start(role);
    await deployment.ready(role);
  }
  stopping = true;
  await Promise.all(load);
  assert.deepEqual(failures, []);
});

/** Sends the pattern to an echo until told to end; the digests are of each way. */
const startTransfer = (t: Parameters<typeof dial>[0], address: string) => {
  const socket = dial(t, address);
  const [sent, received] = [createHash('sha256'), createHash('sha256')];
  let sentBytes = 0;
  let receivedBytes = 0;
  let isEnding = false;
  const send = (): void => {
    if (isEnding) return;
    const piece = patternAt(sentBytes, PIECE_BYTES);
    sent.update(piece);
    sentBytes += piece.length;
    if (socket.write(piece)) setImmediate(send);
    else socket.once('drain', send);
  };
  socket.on('data', (chunk: Buffer) => {
    received.update(chunk);
    receivedBytes += chunk.length;
  });
  const how = new Promise<string>((resolve) => {
    socket.once('end', () => resolve(endedByReset(socket) ? 'ECONNRESET' : 'fin'));
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
  socket.once('connect', send);
  return {
    bytes: (): number => receivedBytes,
    how,
    /** Ends the sending side and answers the digests once everything has come back. */
    async end(): Promise<{ how: string; sent: string; received: string }> {
      isEnding = true;
      socket.end();
      return { how: await how, sent: sent.digest('hex'), received: received.digest('hex') };
    },
  };
};

test('when one of two nodes dies, what moves over the other one loses not a byte', async (t) => {
  const target = await listen(t, (socket) => socket.pipe(socket));
  const deployment = await createTwoNodes(t, target.port);
  for (const role of ['relay-a', 'relay-b', 'agent'] as const) deployment.start(role);
  for (const role of ['relay-a', 'relay-b', 'agent'] as const) await deployment.ready(role);
  const sendFile = join(deployment.directory, 'connections', 'shop.send');
  const gatewayOf = async (role: keyof typeof TWO_NODES): Promise<string> => {
    const connectionString = readFileSync(sendFile, 'utf8').trim();
    const settings = { connection: 'shop', connectionString, name: `gateway-${role}`, node: TWO_NODES[role] };
    return (await startGateway(t, deployment, settings)).listen;
  };
  const [atA, atB] = [await gatewayOf('relay-a'), await gatewayOf('relay-b')];
  const doomed = Array.from({ length: TRANSFERS }, () => startTransfer(t, atA));
  const kept = Array.from({ length: TRANSFERS }, () => startTransfer(t, atB));
  const moved = (bytes: readonly number[]): Promise<true> =>
    eventually(
      'every stream moves',
      () =>
        [...doomed, ...kept].every((one, index) => one.bytes() >= (bytes[index] ?? 0)) ? true : undefined,
      DEADLINE_MS,
    );
  await moved([...doomed, ...kept].map(() => MOVING_BYTES));

  await deployment.kill('relay-a');
  for (const { how } of doomed) assert.equal(await how, 'ECONNRESET');
  const atDeath = kept.map((one) => one.bytes());
  await moved([...doomed.map(() => 0), ...atDeath.map((bytes) => bytes + MOVING_BYTES)]);
  for (const one of kept) {
    const { how, sent, received } = await one.end();
    assert.deepEqual([how, received], ['fin', sent]);
  }
});
