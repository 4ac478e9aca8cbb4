import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { dial, listen, readToEnd } from '../support/sockets.ts';
import { startUp } from '../support/up.ts';

/** More than every window on the way together, so that nothing fits into buffers. */
const LARGE_BYTES = 24 * 1024 * 1024;

test('what ends a TCP connection is carried as what it is, both ways', async (t) => {
  /** The next connection that the target gets. */
  let arrived: (socket: Socket) => void = () => undefined;
  const target = await listen(t, (socket) => arrived(socket));
  const up = await startUp(t, { publish: { raw: `127.0.0.1:${target.port}` } });

  const open = async (): Promise<{ client: Socket; far: Socket }> => {
    const next = new Promise<Socket>((resolve) => (arrived = resolve));
    const client = dial(t, up.listenOf('raw'));
    const far = await next;
    return { client, far };
  };
  const lastReason = async (bytesUp: number, bytesDown: number): Promise<string> =>
    eventually('the end is recorded with its bytes', async () => {
      const rows = await up.rows<{ close_reason: string }>(
        `select close_reason from audit.event where type = 'stream.close' and connection = 'raw'
           and bytes_up = $1 and bytes_down = $2`,
        [bytesUp, bytesDown],
      );
      return rows[0]?.close_reason;
    });

  await t.test('the client ends first, the target answers afterwards', async () => {
    const { client, far } = await open();
    const atTarget = readToEnd(far);
    client.end('question');
    assert.deepEqual(await atTarget, { bytes: Buffer.from('question'), how: 'fin' });
    const atClient = readToEnd(client);
    far.write('an answer after the end of the question');
    far.end(Buffer.alloc(LARGE_BYTES, 'a'));
    const answer = await atClient;
    assert.equal(answer.how, 'fin');
    assert.equal(answer.bytes.length, LARGE_BYTES + 39);
    assert.equal(await lastReason(8, LARGE_BYTES + 39), 'client_fin');
  });

  await t.test('the target ends first, the client goes on', async () => {
    const { client, far } = await open();
    const atClient = readToEnd(client);
    far.end('that is all from here');
    assert.deepEqual(await atClient, { bytes: Buffer.from('that is all from here'), how: 'fin' });
    const atTarget = readToEnd(far);
    client.end(Buffer.alloc(LARGE_BYTES, 'b'));
    const rest = await atTarget;
    assert.equal(rest.how, 'fin');
    assert.equal(rest.bytes.length, LARGE_BYTES);
    assert.equal(await lastReason(LARGE_BYTES, 21), 'target_fin');
  });

  await t.test('a reset by the client reaches the target as a reset', async () => {
    const { client, far } = await open();
    client.write('12345');
    await once(far, 'data');
    const atTarget = readToEnd(far);
    client.resetAndDestroy();
    assert.equal((await atTarget).how, 'ECONNRESET');
    assert.equal(await lastReason(5, 0), 'client_reset');
  });

  await t.test('a reset by the target reaches the client as a reset', async () => {
    const { client, far } = await open();
    const atClient = readToEnd(client);
    client.write('1234567');
    await once(far, 'data');
    far.resetAndDestroy();
    assert.equal((await atClient).how, 'ECONNRESET');
    assert.equal(await lastReason(7, 0), 'target_reset');
  });

  await t.test('a target that nobody listens at is a reset, and `why` says so', async () => {
    target.server.close();
    const end = await readToEnd(dial(t, up.listenOf('raw')));
    assert.equal(end.how, 'ECONNRESET');
    const why = await up.command('why', 'raw');
    assert.match(why.stdout, /target_unreachable/);
  });
});
