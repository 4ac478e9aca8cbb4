import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, dial, echo, readToEnd, type SocketEnd } from '../support/sockets.ts';

const DEADLINE_MS = 60_000;

interface RelayStatus {
  readonly links: number;
  readonly workers: readonly { readonly pid: number; readonly state: string; readonly links: number }[];
}

test('one relay node with two pipe workers behind its one port', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, {
    publish: { shop: `127.0.0.1:${target.port}`, bank: `127.0.0.1:${target.port}` },
    edit: { relay: (settings) => (settings.workers = 2) },
  });
  await deployment.startAll();
  const shop = deployment.listenOf('shop');
  const bank = deployment.listenOf('bank');
  const status = async (): Promise<RelayStatus> =>
    (await (await fetch(`${deployment.statusUrl('relay')}/status`)).json()) as RelayStatus;
  let keptEnd: Promise<SocketEnd> | undefined;
  const works = (address: string, text: string): Promise<string> =>
    eventually(`a stream works (${text})`, () => askOnce(t, address, text), DEADLINE_MS);

  await t.test('links are carried by the workers, one each', async () => {
    await works(shop, 'shop');
    await works(bank, 'bank');
    await eventually('one link each', async () => {
      const { workers } = await status();
      return workers.length === 2 && workers.every(({ state, links }) => state === 'up' && links === 1)
        ? true
        : undefined;
    });
  });

  await t.test('bytes arrive as they were sent', async () => {
    const payload = randomBytes(8 * 1024 * 1024);
    const socket = dial(t, shop);
    const back = readToEnd(socket, DEADLINE_MS);
    socket.end(payload);
    const { bytes } = await back;
    const digest = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
    assert.equal(digest(bytes), digest(payload));
  });

  await t.test('a worker that is killed loses its links, and the next stream works', async () => {
    const before = await status();
    const [first] = before.workers;
    assert.ok(first !== undefined);
    process.kill(first.pid, 'SIGKILL');
    assert.equal(await works(shop, 'again'), 'again');
    assert.equal(await works(bank, 'again'), 'again');
    await eventually('it is started again', async () => {
      const { workers } = await status();
      return workers.every(({ state, pid }) => state === 'up' && pid !== first.pid) ? true : undefined;
    });
  });

  await t.test("a revoked key's stream is reset, another key's goes on, and nothing is pending", async () => {
    const cut = dial(t, shop);
    const kept = dial(t, bank);
    for (const socket of [cut, kept]) {
      socket.write('x');
      await once(socket, 'data');
    }
    const ended = readToEnd(cut, DEADLINE_MS);
    const revoked = await deployment.command(
      ...['key', 'revoke', '--auth-rule', 'shop/defaultSender', '--slot', 'primary', '--reason', 'test'],
      '--json',
    );
    const answer = JSON.parse(revoked.stdout) as { links: number; streams: number; pending: unknown[] };
    assert.deepEqual(
      { code: revoked.code, links: answer.links, streams: answer.streams, pending: answer.pending },
      { code: 0, links: 1, streams: 1, pending: [] },
    );
    assert.equal((await ended).how, 'ECONNRESET');
    kept.write('y');
    const [data] = (await once(kept, 'data')) as [Buffer];
    assert.equal(data.toString(), 'y');
    // The node is killed below, and this with it.
    keptEnd = readToEnd(kept, DEADLINE_MS);
  });

  await t.test('both sides have counted the same bytes of each link that ended', async () => {
    await eventually('the relay has recorded the link that was cut', async () => {
      const rows = await deployment.rows<{ link_id: string; relay: string | null; agent: string | null }>(
        `select link_id::text,
                max(bytes_up) filter (where origin like 'relay/%') as relay,
                max(bytes_up) filter (where origin like 'agent/%') as agent
           from audit.event where type = 'link.closed' and connection = 'shop' and close_reason = 'key_revoked'
          group by link_id`,
      );
      const [row] = rows;
      if (row === undefined || row.relay === null || row.agent === null) return undefined;
      assert.ok(Number(row.agent) <= Number(row.relay), JSON.stringify(row));
      return true;
    });
  });

  await t.test('the workers end with their node, even when it is killed', async () => {
    const { workers } = await status();
    await deployment.kill('relay');
    await eventually('every worker is gone', () => {
      const left = workers.filter(({ pid }) => {
        try {
          process.kill(pid, 0);
          return true;
        } catch {
          return false;
        }
      });
      return left.length === 0 ? true : undefined;
    });
    assert.equal((await keptEnd)?.how, 'ECONNRESET');
  });
});
