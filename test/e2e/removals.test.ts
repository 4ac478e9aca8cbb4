import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createDeployment, type Role } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, echo, holdStreams, readToEnd } from '../support/sockets.ts';
import { everybodyAtBoth, TWO_NODES } from '../support/two-nodes.ts';

const DEADLINE_MS = 30_000;
const STREAMS = 6;

interface Enforcement {
  readonly nodes: number;
  readonly links: number;
  readonly streams: number | null;
  readonly pending: readonly { readonly kind: string; readonly name: string }[];
}
interface Agent {
  readonly name: string;
  readonly instance: string;
  readonly nodes: readonly { readonly node: string }[];
  readonly published: readonly string[];
  readonly credentials: readonly object[];
  readonly bundle_sequence: number | null;
  readonly links: number;
}

test('an auth-rule, a connection and an agent end over two nodes as a key does', async (t) => {
  const target = await echo(t);
  const to = `127.0.0.1:${target.port}`;
  const deployment = await createDeployment(t, {
    publish: { books: to, bills: to, shop: to },
    nodes: TWO_NODES,
  });
  await deployment.startAll();
  await everybodyAtBoth(deployment, 'relay-a');
  // eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- what a command prints is the caller's to know
  const run = async <T>(...args: string[]): Promise<{ code: number | null; answer: T }> => {
    const { code, stdout, stderr } = await deployment.command(...args, '--json');
    assert.notEqual(stdout, '', stderr);
    return { code, answer: JSON.parse(stdout) as T };
  };
  const hold = (connection: string) => holdStreams(t, deployment.listenOf(connection), STREAMS);
  const held = { books: await hold('books'), bills: await hold('bills'), shop: await hold('shop') };
  const resets = async (sockets: Awaited<ReturnType<typeof hold>>): Promise<void> => {
    const ends = await Promise.all(sockets.map((socket) => readToEnd(socket, DEADLINE_MS)));
    for (const end of ends) assert.equal(end.how, 'ECONNRESET');
  };
  const recorded = (reason: string): Promise<boolean> =>
    eventually(
      `${STREAMS} streams ended with ${reason}`,
      async () => {
        const [row] = await deployment.rows<{ n: number }>(
          `select count(*)::int as n from audit.event where type = 'stream.close' and close_reason = $1`,
          [reason],
        );
        assert.equal(row?.n, STREAMS);
        return true;
      },
      DEADLINE_MS,
    );
  const cut = ({ nodes, streams, pending }: Enforcement) => ({ nodes, streams, pending });
  const agents = async (): Promise<readonly Agent[]> => (await run<Agent[]>('agents', 'list')).answer;
  let agentName = '';

  await t.test('the agent is listed with both nodes, its keys, connections and bundle', async () => {
    const [agent] = await eventually(
      'all is written',
      async () => {
        const all = await agents();
        assert.deepEqual(all[0]?.published, ['bills', 'books', 'shop']);
        assert.ok(all.every(({ links }) => links >= 3));
        return all;
      },
      DEADLINE_MS,
    );
    assert.ok(agent);
    agentName = agent.name;
    assert.deepEqual(
      agent.nodes.map(({ node }) => node),
      ['relay-a', 'relay-b'],
    );
    assert.equal(agent.credentials.length, 3);
    assert.ok((agent.bundle_sequence ?? 0) > 0);
  });

  await t.test('a removed auth-rule cuts its streams at once and no others', async () => {
    const reset = resets(held.books);
    const { code, answer } = await run<{ revoked_keys: number; enforcement: Enforcement }>(
      'auth-rule',
      'delete',
      'books/defaultSender',
    );
    assert.deepEqual([code, answer.revoked_keys], [0, 2]);
    assert.deepEqual(cut(answer.enforcement), { nodes: 2, streams: STREAMS, pending: [] });
    await reset;
    await recorded('auth_rule_removed');
  });

  await t.test('a removed connection too', async () => {
    const reset = resets(held.bills);
    const { code, answer } = await run<{ enforcement: Enforcement }>('connection', 'delete', 'bills');
    assert.equal(code, 0);
    assert.deepEqual(cut(answer.enforcement), { nodes: 2, streams: STREAMS, pending: [] });
    await reset;
    await recorded('connection_removed');
    assert.equal(await askOnce(t, deployment.listenOf('shop'), 'yes'), 'yes', 'the agent is still there');
  });

  await t.test(
    'a revoked agent: pending while a node is frozen, though its streams end everywhere',
    async () => {
      const preview = await run<{ logins: number; links: number }>(
        ...['agents', 'revoke', agentName, '--reason', 'stolen', '--dry-run'],
      );
      assert.deepEqual([preview.code, preview.answer.logins], [0, 2]);
      const carriesA = (
        await run<{ connection: string }[]>('link', 'list', '--admin', deployment.adminUrlOf('relay-a'))
      ).answer.some(({ connection }) => connection === 'shop');
      const [frozen, running]: [Role, Role] = carriesA ? ['relay-a', 'relay-b'] : ['relay-b', 'relay-a'];
      const at = ['--admin', deployment.adminUrlOf(running)];
      const { pid } = deployment.process(frozen);
      const thaw = (): void => {
        try {
          process.kill(pid, 'SIGCONT');
        } catch {
          // It has ended already.
        }
      };
      t.after(thaw);
      process.kill(pid, 'SIGSTOP');
      const reset = resets(held.shop);
      const { code, answer } = await run<Enforcement>(
        ...['agents', 'revoke', agentName, '--reason', 'stolen', ...at],
      );
      assert.equal(code, 1, 'exit 1 while anything is pending');
      assert.deepEqual(
        { nodes: answer.nodes, pending: answer.pending.map(({ kind, name }) => `${kind} ${name}`) },
        { nodes: 1, pending: [`node ${frozen}`] },
      );
      await reset;
      await recorded('identity_revoked');
      const [revocation] = (
        await run<{ revocation_id: string; agent: string }[]>('revocation', 'list', ...at)
      ).answer;
      assert.equal(revocation?.agent, agentName);
      assert.equal((await run('revocation', 'show', revocation.revocation_id, ...at)).code, 1);
      thaw();
      await eventually(
        'nothing is pending',
        async () => {
          assert.equal((await run('revocation', 'show', revocation.revocation_id, ...at)).code, 0);
          return true;
        },
        DEADLINE_MS,
      );
      await eventually(
        'it is logged in nowhere',
        async () => ((await agents()).length === 0 ? true : undefined),
        DEADLINE_MS,
      );
    },
  );

  await t.test('it is refused after a restart too, and says why', async () => {
    await deployment.process('agent').end('SIGTERM');
    const agent = deployment.start('agent');
    await agent.said(/identity_revoked: agent \S+ is revoked/);
    await assert.rejects(askOnce(t, deployment.listenOf('shop'), 'no'));
  });
});
