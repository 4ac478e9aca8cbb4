import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemClock } from '../../src/runtime/index.ts';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, dial, echo, holdStreams, readToEnd } from '../support/sockets.ts';

const DEADLINE_MS = 30_000;
const LANES = 4;
/** Enough for a relay to start anew on a busy machine. */
const RETIRE_AFTER_S = 25;

interface Rotated {
  readonly key: { readonly key_id: string; readonly connection_string: string };
}
interface Status {
  readonly connections: readonly {
    readonly keys: readonly { readonly key_id: string }[];
    readonly links: readonly { readonly state: string }[];
  }[];
}

test('both slots of an auth-rule are rotated under load: no open fails', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  await deployment.startAll();
  const address = deployment.listenOf('shop');
  const sendFile = join(deployment.directory, 'connections', 'shop.send');
  const rotate = async (slot: string): Promise<Rotated['key']> => {
    const ran = await deployment.command('--json', 'key', 'rotate', 'shop/defaultSender', '--slot', slot);
    assert.equal(ran.code, 0, ran.stderr);
    return (JSON.parse(ran.stdout) as Rotated).key;
  };
  /** Hands the gateway a key the way an operator does, and waits until new streams use it. */
  const handOver = async (key: Rotated['key']): Promise<void> => {
    writeFileSync(sendFile, `${key.connection_string}\n`);
    deployment.process('gateway').child.kill('SIGHUP');
    await eventually(
      'new streams use the new key',
      async () => {
        const answer = await fetch(`${deployment.statusUrl('gateway')}/status`);
        const [connection] = ((await answer.json()) as Status).connections;
        const keys = connection?.keys.map(({ key_id }) => key_id);
        assert.deepEqual(keys, [key.key_id]);
        return true;
      },
      DEADLINE_MS,
    );
  };

  let stopping = false;
  let asked = 0;
  const failures: unknown[] = [];
  const load = Array.from({ length: LANES }, async (_, lane) => {
    while (!stopping) {
      asked += 1;
      await askOnce(t, address, `${lane}`).catch((error: unknown) => failures.push(error));
    }
  });
  const more = (): Promise<unknown> => {
    const before = asked;
    return eventually('streams flow', () => (asked > before + 50 ? true : undefined), DEADLINE_MS);
  };
  await more();

  // The usual walk: a fresh secondary, everybody moves to it, then a fresh primary; the old primary ends at once.
  const secondary = await rotate('secondary');
  await handOver(secondary);
  const held = dial(t, address);
  held.write('held');
  await new Promise((resolve) => held.once('data', resolve));
  const primary = await rotate('primary');
  await more();
  await handOver(primary);
  await more();

  // A stream of the key before goes on: its key lives.
  held.write('still');
  const [heard] = await new Promise<[Buffer]>((resolve) =>
    held.once('data', (chunk: Buffer) => resolve([chunk])),
  );
  assert.equal(heard.toString(), 'still');

  // A key that is no good changes nothing.
  writeFileSync(
    sendFile,
    `${primary.connection_string.replace(/SharedAccessKey=[^;]{4}/, 'SharedAccessKey=AAAA')}\n`,
  );
  deployment.process('gateway').child.kill('SIGHUP');
  await deployment.process('gateway').said(/the new key is refused, the old one goes on/);
  await more();

  stopping = true;
  await Promise.all(load);
  assert.deepEqual(failures, []);

  // What became of it is told to whoever asks why.
  const refused = (await deployment.command('why', 'shop')).stdout;
  assert.match(refused, /shop: a login was refused with not_authorized/);
  assert.match(refused, /gateway at 127\.0\.0\.1, which names the auth-rule defaultSender/);

  // The good keys go too: whoever asks learns which, and why.
  const revoke = async (keyId: string): Promise<void> => {
    const ran = await deployment.command('key', 'revoke', keyId, '--reason', 'seen in a log');
    assert.equal(ran.code, 0, ran.stderr);
  };
  const says = (wanted: RegExp): Promise<boolean> =>
    eventually(`why says ${wanted.source}`, async () => {
      const { code, stdout } = await deployment.command('why', 'shop');
      assert.equal(code, 1);
      assert.match(stdout, wanted);
      return true;
    });
  const revokedLine = (keyId: string): string =>
    `revoked +${keyId} \\(shop/defaultSender\\), .*: seen in a log; .*revocation show`;
  await revoke(primary.key_id);
  await says(new RegExp(revokedLine(primary.key_id)));
  const heldEnd = readToEnd(held, DEADLINE_MS);
  await revoke(secondary.key_id);
  assert.equal((await heldEnd).how, 'ECONNRESET');
  await says(new RegExp(`no connected gateway has a valid key for it\\n +${revokedLine(secondary.key_id)}`));
});

test('a replaced key works until its time over a restart of the relay, then its streams end', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  await deployment.startAll();
  const address = deployment.listenOf('shop');
  const before = (await holdStreams(t, address, LANES)).map((socket) => readToEnd(socket, DEADLINE_MS));

  const ran = await deployment.command(
    ...['--json', 'key', 'rotate', 'shop/defaultSender', '--slot', 'primary'],
    ...['--retire-after', `${RETIRE_AFTER_S}s`],
  );
  assert.equal(ran.code, 0, ran.stderr);
  const { replaced } = JSON.parse(ran.stdout) as {
    replaced: { key_id: string; retire_at: string };
  };

  await deployment.kill('relay');
  await Promise.all(before);
  deployment.start('relay');
  await deployment.ready('relay');
  await deployment.ready('gateway');
  // The gateway was told of no other key: what works here works with the one that was replaced.
  const held = await eventually(
    'streams over the new run',
    () => holdStreams(t, address, LANES),
    DEADLINE_MS,
  );
  const ends = held.map((socket) => readToEnd(socket, DEADLINE_MS));
  assert.equal(await askOnce(t, address, 'not yet'), 'not yet');
  assert.ok(
    systemClock.nowMs() < Date.parse(replaced.retire_at),
    'the machine is too slow for this test to mean anything',
  );
  for (const end of await Promise.all(ends)) assert.equal(end.how, 'ECONNRESET');
  await assert.rejects(askOnce(t, address, 'no'), 'the old key opens nothing');

  await eventually('the ends are recorded', async () => {
    const rows = await deployment.rows<{ close_reason: string; late: boolean; n: number }>(
      `select close_reason, occurred_at >= $1::timestamptz as late, count(*)::int as n from audit.event
        where type = 'stream.close' and key_id = $2 and close_reason not in ('client_fin', 'target_fin')
        group by 1, 2 order by 1`,
      [replaced.retire_at, replaced.key_id],
    );
    assert.deepEqual(rows, [
      { close_reason: 'key_rotated', late: true, n: LANES },
      { close_reason: 'link_lost', late: false, n: LANES },
    ]);
    return true;
  });
});

test('both slots of the Listen key are changed under load, on SIGHUP: no open fails', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  await deployment.startAll();
  const address = deployment.listenOf('shop');
  const listenFile = join(deployment.directory, 'connections', 'shop.listen');
  const rotate = async (slot: string): Promise<Rotated['key']> => {
    const ran = await deployment.command('--json', 'key', 'rotate', 'shop/defaultListener', '--slot', slot);
    assert.equal(ran.code, 0, ran.stderr);
    return (JSON.parse(ran.stdout) as Rotated).key;
  };
  const listenersOf = async (): Promise<Set<string>> => {
    const { stdout } = await deployment.command('link', 'list', '--json');
    const links = JSON.parse(stdout) as { listener_key_id: string; state: string }[];
    return new Set(links.filter(({ state }) => state === 'joined').map((link) => link.listener_key_id));
  };
  const handOver = async (text: string): Promise<void> => {
    writeFileSync(listenFile, `${text}\n`);
    deployment.process('agent').child.kill('SIGHUP');
  };
  const attached = async (): Promise<string[]> => {
    const { stdout } = await deployment.command('agents', 'list', '--json');
    const [agent] = JSON.parse(stdout) as { credentials: { key_id: string }[] }[];
    return (agent?.credentials ?? []).map(({ key_id }) => key_id);
  };
  const becomes = (what: string, is: () => Promise<boolean>): Promise<unknown> =>
    eventually(what, async () => ((await is()) ? true : undefined), 2 * DEADLINE_MS);

  let stopping = false;
  let asked = 0;
  const failures: unknown[] = [];
  const load = Array.from({ length: LANES }, async (_, lane) => {
    while (!stopping) {
      asked += 1;
      await askOnce(t, address, `${lane}`).catch((error: unknown) => failures.push(error));
    }
  });
  const more = (): Promise<unknown> => {
    const before = asked;
    return eventually('streams flow', () => (asked > before + 50 ? true : undefined), DEADLINE_MS);
  };
  await more();
  const held = dial(t, address);
  held.write('held');
  await new Promise((resolve) => held.once('data', resolve));
  const [first = ''] = await listenersOf();

  // A stream is held on the primary: its link serves it out beside one on the new key.
  const secondary = await rotate('secondary');
  await handOver(secondary.connection_string);
  await becomes('links on both keys', async () => {
    const keys = await listenersOf();
    return keys.has(secondary.key_id) && keys.has(first);
  });
  await more();
  held.write('still');
  const [heard] = await new Promise<[Buffer]>((resolve) =>
    held.once('data', (chunk: Buffer) => resolve([chunk])),
  );
  assert.equal(heard.toString(), 'still');
  held.destroy();
  await becomes('the old key is let go', async () => {
    const keys = await attached();
    return keys.length === 1 && keys[0] === secondary.key_id;
  });

  const primary = await rotate('primary');
  await handOver(primary.connection_string);
  await becomes('links on the new primary alone', async () => {
    const keys = await listenersOf();
    return keys.size === 1 && keys.has(primary.key_id);
  });
  await more();

  // A key that is no good changes nothing.
  await handOver(primary.connection_string.replace(/SharedAccessKey=[^;]{4}/, 'SharedAccessKey=AAAA'));
  await deployment.process('agent').said(/the new key is refused, the old one goes on/);
  await more();

  stopping = true;
  await Promise.all(load);
  assert.deepEqual(failures, []);
});
