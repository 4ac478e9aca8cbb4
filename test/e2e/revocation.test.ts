import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { isPattern, patternAt } from '../../bench/load/pattern.ts';
import { endedByReset } from '../../src/protocol/session/reset-detection.ts';
import { startBackground } from '../support/background.ts';
import { sallyport, sallyportProgram } from '../support/command.ts';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { dial, listen } from '../support/sockets.ts';
import { startSecondGateway } from '../support/second-gateway.ts';

const REVOKED_STREAMS = 200;
const KEPT_STREAMS = 50;
const PIECE_BYTES = 4 * 1024;
const PIECE_EVERY_MS = 20;
const BATCH = 25;
const TOLD_DEADLINE_MS = 10_000;
/** What the kept streams move, at 4 KiB in 20 ms, while applications come to the revoked key: half a second or more. */
const WHILE_BYTES = 128 * 1024;
/** What each stream has moved before the key goes. */
const MOVING_BYTES = 16 * 1024;

/** One application's stream: sends the pattern, gets it back, verifies each byte. */
interface Flow {
  readonly socket: Socket;
  received: number;
  sent: number;
  wrong: boolean;
  lastByteMs: number;
  end: string | undefined;
}

const startFlow = (t: Parameters<typeof dial>[0], address: string): Flow => {
  const socket = dial(t, address);
  const flow: Flow = { socket, received: 0, sent: 0, wrong: false, lastByteMs: 0, end: undefined };
  socket.on('data', (chunk) => {
    flow.wrong ||= !isPattern(chunk, flow.received);
    flow.received += chunk.length;
    flow.lastByteMs = performance.now();
  });
  const send = setInterval(() => {
    if (!socket.writable || socket.writableLength > 0) return;
    socket.write(patternAt(flow.sent, PIECE_BYTES));
    flow.sent += PIECE_BYTES;
  }, PIECE_EVERY_MS);
  const over = (how: string): void => {
    clearInterval(send);
    flow.end ??= how;
  };
  socket.once('error', (error: NodeJS.ErrnoException) => over(error.code ?? error.message));
  // libuv shows a RST behind unread bytes as an end.
  socket.once('end', () => over(endedByReset(socket) ? 'ECONNRESET' : 'fin'));
  socket.once('close', () => over('closed'));
  return flow;
};

/**
 * Opens a few at a time and waits until each has moved bytes. On a machine too busy to decide in time an open
 * may be refused (`policy_overload`); it is tried again, which an application would do as well.
 */
const startFlows = async (t: Parameters<typeof dial>[0], address: string, count: number): Promise<Flow[]> => {
  const flows: Flow[] = [];
  while (flows.length < count) {
    const batch = Array.from({ length: Math.min(BATCH, count - flows.length) }, () => startFlow(t, address));
    await eventually('a batch of streams moves', () => {
      for (const [index, flow] of batch.entries()) {
        if (flow.end === undefined) continue;
        assert.equal(flow.received, 0, `a stream ended with ${flow.end} after ${flow.received} bytes`);
        batch[index] = startFlow(t, address);
      }
      return batch.every((flow) => flow.received >= MOVING_BYTES) ? true : undefined;
    });
    flows.push(...batch);
  }
  return flows;
};

test('a revoked key loses its 200 live streams, the other slot loses nothing of its 50', async (t) => {
  let lastAtTargetMs = 0;
  const arrivals = new Map<Socket, number>();
  const target = await listen(t, (socket) => {
    socket.on('data', (chunk) => {
      lastAtTargetMs = performance.now();
      arrivals.set(socket, lastAtTargetMs);
      socket.write(chunk);
    });
    socket.on('end', () => socket.end());
  });
  const deployment = await createDeployment(t, {
    publish: { shop: `127.0.0.1:${target.port}` },
    edit: { gateway: (settings) => Object.assign(settings, { limits: { open_timeout_seconds: 600 } }) },
  });
  await deployment.startAll();
  const second = await startSecondGateway(t, deployment, 'shop');

  const revoked = await startFlows(t, deployment.listenOf('shop'), REVOKED_STREAMS);
  const revokedAtTarget = [...target.sockets];
  const kept = await startFlows(t, second.listen, KEPT_STREAMS);

  const startedMs = performance.now();
  const response = await fetch(`${deployment.adminUrl}/api/v1/keys/${second.otherKeyId}/revoke`, {
    method: 'POST',
    headers: { authorization: `Bearer ${deployment.adminToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ reason: 'a laptop was lost' }),
  });
  const answeredMs = performance.now();
  const answer = (await response.json()) as { links: number; streams: number | null; pending: unknown[] };
  assert.equal(response.status, 200, JSON.stringify(answer));
  await eventually('the 200 are over', () =>
    revoked.every((flow) => flow.end !== undefined) ? true : undefined,
  );
  const keptAtRevocation = kept.map((flow) => flow.received);
  assert.deepEqual(
    revoked.filter((flow) => flow.end !== 'ECONNRESET').map((flow) => flow.end),
    [],
    'each ends with a reset',
  );
  assert.ok(revoked.every((flow) => !flow.wrong));
  assert.deepEqual(answer.pending, []);
  assert.equal(answer.streams, REVOKED_STREAMS);

  const lastAtApplication = Math.max(...revoked.map((flow) => flow.lastByteMs)) - startedMs;
  const lastAtTarget = Math.max(...revokedAtTarget.map((socket) => arrivals.get(socket) ?? 0)) - startedMs;
  t.diagnostic(
    `revoke: answered after ${(answeredMs - startedMs).toFixed(1)} ms; last byte at an application's socket ` +
      `${lastAtApplication.toFixed(1)} ms, at a target's socket ${lastAtTarget.toFixed(1)} ms after the request`,
  );

  await eventually('the 50 go on', () =>
    kept.every((flow, index) => flow.received >= (keptAtRevocation[index] ?? 0) + MOVING_BYTES)
      ? true
      : undefined,
  );
  // No node is asked for the key again within 20 s, and the open timeout is ten minutes: only its being revoked ends these.
  const goneOn = (): boolean =>
    kept.every((flow, index) => flow.received >= (keptAtRevocation[index] ?? 0) + WHILE_BYTES);
  do {
    const again = startFlow(t, deployment.listenOf('shop'));
    await eventually('an application that comes now is told', () => again.end, TOLD_DEADLINE_MS);
    assert.deepEqual([again.end, again.received], ['ECONNRESET', 0], 'the revoked key opens nothing');
  } while (!goneOn());
  for (const flow of kept) flow.socket.end();
  await eventually('the 50 end by themselves', () =>
    kept.every((flow) => flow.end !== undefined) ? true : undefined,
  );
  assert.deepEqual(
    kept.filter((flow) => flow.end !== 'fin' || flow.wrong || flow.received !== flow.sent).length,
    0,
    'every byte of the 50 came back',
  );

  await eventually('the ends are recorded', async () => {
    const ends = await deployment.rows<{ close_reason: string; key_slot: string; count: string }>(
      `select close_reason, key_slot, count(*) from audit.event where type = 'stream.close'
         group by close_reason, key_slot order by key_slot`,
    );
    const total = ends.reduce((sum, row) => sum + Number(row.count), 0);
    if (total < REVOKED_STREAMS + KEPT_STREAMS) throw new Error(JSON.stringify(ends));
    assert.deepEqual(ends, [
      { close_reason: 'key_revoked', key_slot: 'primary', count: String(REVOKED_STREAMS) },
      { close_reason: 'client_fin', key_slot: 'secondary', count: String(KEPT_STREAMS) },
    ]);
    return true;
  });
  await eventually('the revocation is told with what it cut', async () => {
    const query = ['audit', 'query', 'revocation-cuts', '--json', '--database', deployment.databaseUrl];
    const { stdout } = await sallyport(query);
    const [row, ...others] = JSON.parse(stdout) as Record<string, unknown>[];
    assert.deepEqual(row?.nodes, ['agent/agent-1', 'relay/relay-1']);
    assert.deepEqual(
      [row.links, row.streams, row.streams_recorded],
      [answer.links, REVOKED_STREAMS, REVOKED_STREAMS],
    );
    assert.deepEqual([typeof row.slowest_ms, others.length], ['number', 0]);
    return true;
  });
  await eventually('both sides recorded the link as cut', async () => {
    const links = await deployment.rows<{ side: string }>(
      `select distinct convert_from(canonical, 'UTF8')::jsonb -> 'origin' ->> 'kind' as side from audit.event
         where type = 'link.closed' and close_reason = 'key_revoked' order by 1`,
    );
    assert.deepEqual(
      links.map(({ side }) => side),
      ['agent', 'relay'],
    );
    return true;
  });
});

test('a revoked key cannot start a gateway', async (t) => {
  const target = await listen(t, (socket) => socket.end());
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  deployment.start('relay');
  await deployment.ready('relay');
  const keys = await deployment.command('--json', 'key', 'list', '--connection', 'shop');
  assert.equal(keys.code, 0, keys.stderr);
  const sender = (JSON.parse(keys.stdout) as { key_id: string; auth_rule: string; slot: string }[]).find(
    (key) => key.auth_rule.endsWith('defaultSender') && key.slot === 'primary',
  );
  assert.ok(sender);
  const revoke = await deployment.command('--json', 'key', 'revoke', sender.key_id, '--reason', 'test');
  assert.equal(revoke.code, 0, revoke.stderr);
  const gateway = startBackground(
    t,
    process.execPath,
    [sallyportProgram, 'gateway', '-c', `${deployment.directory}/gateway.yaml`],
    { cwd: deployment.directory },
  );
  await gateway.said(/revoked|401/i);
});
