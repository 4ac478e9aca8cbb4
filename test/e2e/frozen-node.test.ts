import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { sallyport } from '../support/command.ts';
import type { Role } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { createTwoNodes, everybodyAtBoth } from '../support/two-nodes.ts';
import { askOnce, dial, echo, holdStreams, readToEnd } from '../support/sockets.ts';

const DEADLINE_MS = 30_000;
const STREAMS = 8;
/** Well before a link request is given up (10 s) and an application (15 s): nobody waited for the frozen node. */
const OPEN_DEADLINE_MS = 5_000;
/** Connections without a link: were each to ask one of two nodes at random, all would hardly miss the frozen one. */
const LAZY = Array.from({ length: 8 }, (_, index) => `lazy-${index}`);

interface Answer {
  readonly nodes: number;
  readonly pending: readonly { readonly kind: string; readonly name: string }[];
}
interface Listed {
  readonly key_id: string;
  readonly auth_rule: string;
  readonly slot: string;
}

test('a key is revoked while the node that carries its streams is frozen', async (t) => {
  const target = await echo(t);
  const deployment = await createTwoNodes(t, target.port);
  await deployment.startAll();
  await everybodyAtBoth(deployment, 'relay-a');
  const at = (role: Role): string[] => ['--json', '--admin', deployment.adminUrlOf(role)];
  const listed = async <T>(role: Role, ...args: string[]): Promise<T> => {
    const { stdout, stderr } = await deployment.command(...args, ...at(role));
    assert.notEqual(stdout, '', stderr);
    return JSON.parse(stdout) as T;
  };
  const address = deployment.listenOf('shop');
  const held = await holdStreams(t, address, STREAMS);
  const carriesA = (await listed<unknown[]>('relay-a', 'link', 'list')).length > 0;
  const [frozen, running]: [Role, Role] = carriesA ? ['relay-a', 'relay-b'] : ['relay-b', 'relay-a'];
  const keys = await listed<Listed[]>(running, 'key', 'list', '--connection', 'shop');
  const key = keys.find(({ auth_rule, slot }) => auth_rule === 'defaultSender' && slot === 'primary');
  assert.ok(key);

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

  await t.test('both ends cut its streams, told by the other node; the frozen one is pending', async () => {
    const ends = held.map((socket) => readToEnd(socket, DEADLINE_MS));
    const targetEnds = target.sockets.map(
      (socket) =>
        new Promise<void>((resolve) =>
          socket.destroyed ? resolve() : socket.once('close', () => resolve()),
        ),
    );
    const ran = await deployment.command('key', 'revoke', key.key_id, '--reason', 'leaked', ...at(running));
    const answer = JSON.parse(ran.stdout) as Answer;
    assert.equal(ran.code, 1, 'exit 1 while anything is pending');
    assert.equal(answer.nodes, 1);
    assert.deepEqual(
      answer.pending.map(({ kind, name }) => `${kind} ${name}`),
      [`node ${frozen}`],
    );
    for (const end of await Promise.all(ends)) assert.equal(end.how, 'ECONNRESET');
    await Promise.all(targetEnds);
    await assert.rejects(askOnce(t, address, 'no'), 'the key opens nothing');
  });

  await t.test('it wakes, enforces, and nothing is pending any more', async () => {
    thaw();
    await eventually(
      'nothing is pending',
      async () => {
        const ran = await deployment.command('key', 'revoke', key.key_id, ...at(running));
        const answer = JSON.parse(ran.stdout) as Answer;
        if (answer.pending.length > 0 || answer.nodes !== 2) throw new Error(ran.stdout);
        return true;
      },
      DEADLINE_MS,
    );
    assert.deepEqual(await listed<unknown[]>(frozen, 'link', 'list'), []);
  });

  await t.test('the evidence says key_revoked for each of them', async () => {
    await eventually(
      'the ends are recorded',
      async () => {
        const rows = await deployment.rows<{ close_reason: string; n: number }>(
          `select close_reason, count(*)::int as n from audit.event where type = 'stream.close' group by 1`,
        );
        assert.deepEqual(rows, [{ close_reason: 'key_revoked', n: STREAMS }]);
        return true;
      },
      DEADLINE_MS,
    );
  });

  await t.test(
    'the agent keeps it with who told it, and forgets it when an operator says so, on record',
    async () => {
      const agentFile = join(deployment.directory, 'agent.yaml');
      const revocations = (...args: string[]) =>
        sallyport(['agent', 'revocations', ...args, '-c', agentFile]);
      const kept = async (): Promise<{ key_id: string; nodes: string[] }[]> =>
        JSON.parse((await revocations('list', '--json')).stdout) as { key_id: string; nodes: string[] }[];
      const [entry] = await kept();
      assert.equal(entry?.key_id, key.key_id);
      assert.ok(entry.nodes.length >= 1);
      assert.match((await revocations('list')).stdout, /^REVOKED +REASON +TOLD BY +TOLD AT\nk_/);
      const unknown = await revocations('forget', 'k_00000000000000000000', '--reason', 'x');
      assert.equal(unknown.code, 1);
      const asked = await revocations('forget', key.key_id, '--reason', 'a node lied');
      assert.equal(asked.code, 0, asked.stderr);
      deployment.process('agent').child.kill('SIGHUP');
      await eventually(
        'it is forgotten',
        async () => ((await kept()).length === 0 ? true : undefined),
        DEADLINE_MS,
      );
      await eventually(
        'it is on record',
        async () => {
          const rows = await deployment.rows<{ key_id: string }>(
            `select key_id from audit.event where type = 'admin.action'
             and convert_from(canonical, 'UTF8')::jsonb #>> '{data,action}' = 'revocation.forgotten'`,
          );
          return rows.length === 1 && rows[0]?.key_id === key.key_id ? true : undefined;
        },
        DEADLINE_MS,
      );
    },
  );
});

test('a frozen node delays no open beyond the time of an answer', async (t) => {
  const target = await echo(t);
  const deployment = await createTwoNodes(t, target.port, {
    more: LAZY,
    edit: {
      gateway: (settings) => {
        for (const connection of settings['connections'] as { name: string; eager?: boolean }[]) {
          connection.eager = connection.name === 'shop';
        }
      },
    },
  });
  await deployment.startAll();
  await everybodyAtBoth(deployment, 'relay-a');
  const ask = async (connection: string, line: string): Promise<string> => {
    const socket = dial(t, deployment.listenOf(connection));
    const end = readToEnd(socket, OPEN_DEADLINE_MS);
    socket.end(line);
    const { bytes, how } = await end;
    return how === 'fin' ? bytes.toString() : how;
  };
  assert.equal(await ask('shop', 'before'), 'before');
  const { stdout } = await deployment.command(
    'link',
    'list',
    '--json',
    '--admin',
    deployment.adminUrlOf('relay-a'),
  );
  const frozen: Role = (JSON.parse(stdout) as unknown[]).length > 0 ? 'relay-a' : 'relay-b';
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

  await t.test('not over the link that it carries', async () => {
    const texts = ['one', 'two', 'three', 'four'];
    assert.deepEqual(await Promise.all(texts.map((text) => ask('shop', text))), texts);
    assert.equal(await ask('shop', 'later'), 'later');
  });

  await t.test('not where a link is looked for', async () => {
    assert.deepEqual(await Promise.all(LAZY.map((name) => ask(name, name))), LAZY);
  });

  await t.test(
    'and when it wakes, no offer of it is taken up and no stream reaches the target twice',
    async () => {
      const connections = target.sockets.length;
      thaw();
      await everybodyAtBoth(deployment, frozen);
      assert.equal(await ask('shop', 'awake'), 'awake');
      await eventually(
        'every offer is put back',
        async () => {
          const listed = await deployment.command(
            'link',
            'list',
            '--json',
            '--admin',
            deployment.adminUrlOf(frozen),
          );
          const links = JSON.parse(listed.stdout) as { connection: string }[];
          return links.every(({ connection }) => connection === 'shop') ? true : undefined;
        },
        DEADLINE_MS,
      );
      assert.equal(target.sockets.length, connections + 1);
    },
  );
});
