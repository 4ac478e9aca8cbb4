import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Role } from '../support/deployment.ts';
import { createTwoNodes, everybodyAtBoth } from '../support/two-nodes.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, echo, holdStreams, readToEnd } from '../support/sockets.ts';

const DEADLINE_MS = 30_000;
const STREAMS = 12;

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
