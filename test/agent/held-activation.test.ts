import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { ALWAYS_CLOSED } from '../../src/agent/close-review.ts';
import type { HeldBundle } from '../../src/policy/index.ts';
import { sallyport } from '../support/command.ts';
import { eventually } from '../support/eventually.ts';
import { dial, readToEnd } from '../support/sockets.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { CONNECTION, startEnds, statusOf, writeBundle } from './ends-fixture.ts';

test('an activation that would close many live streams waits for policy activate', async (t) => {
  const { target, started, listen } = await startEnds(t, (socket) => void socket.pipe(socket));
  const { agent, config, bundleFile } = started;
  const file = join(temporaryDirectory(t), 'agent.yaml');
  const listenAt = new URL(agent.statusUrl).host;
  writeFileSync(file, stringify({ ...config, status: { listen: listenAt } }));
  const policy = (...args: string[]) => sallyport(['--json', 'policy', ...args, '-c', file]);
  const journal = (): string =>
    readdirSync(config.audit.jsonl_dir ?? '')
      .map((name) => readFileSync(join(config.audit.jsonl_dir ?? '', name), 'utf8'))
      .join('\n');
  const echoed = async (socket: Socket, text: string): Promise<void> => {
    socket.write(text);
    assert.equal(String(await new Promise((resolve) => socket.once('data', resolve))), text);
  };
  const live = Array.from({ length: ALWAYS_CLOSED + 1 }, () => dial(t, listen));
  await Promise.all(live.map((socket) => echoed(socket, 'before')));

  const nothing = await policy('activate', '--reason', 'x');
  assert.equal(nothing.code, 1, nothing.stderr);
  assert.match(nothing.stdout, /nothing is held/);

  writeBundle(bundleFile, target.port, { sequence: 1_000, forbidden: [CONNECTION] });
  const held = await eventually('it is held', async () => {
    const status = (await statusOf(agent))['policy'] as { held?: HeldBundle };
    return status.held;
  });
  assert.deepEqual([held.sequence, held.wouldClose, held.live], [1_000, live.length, live.length]);
  await Promise.all(live.map((socket) => echoed(socket, 'while it is held')));
  await eventually('the trail has it', () => (journal().includes('"bundle.held"') ? true : undefined));
  const status = await policy('status');
  assert.equal(status.code, 1, 'something is held');
  const shown = JSON.parse(status.stdout) as { held: HeldBundle; active: { sequence: number } };
  assert.equal(shown.held.id, held.id);
  assert.notEqual(shown.active.sequence, held.sequence);
  const people = await sallyport(['policy', 'status', '-c', file]);
  assert.match(people.stdout, /held +sequence 1000, 'development': would close 11 of 11 live streams/);
  assert.match(people.stdout, /^source +file *\n +\/.*, as agent\.yaml names it *$/m);
  assert.match(people.stdout, /^confirm it: .* policy activate -c .* --reason TEXT$/m);

  const other = await policy('activate', 'f'.repeat(64), '--reason', 'x');
  assert.equal(other.code, 1, other.stderr);
  await Promise.all(live.map((socket) => echoed(socket, 'still')));

  // One stream ends meanwhile: what is confirmed is counted again.
  live.pop()?.destroy();
  await eventually('one stream less', async () => {
    const { streams } = (await statusOf(agent)) as { streams: { open: number } };
    return streams.open === live.length ? true : undefined;
  });
  const ends = live.map((socket) => readToEnd(socket));
  const activated = await sallyport(['policy', 'activate', held.id, '--reason', 'SEC-42', '-c', file]);
  assert.equal(activated.code, 0, activated.stderr + activated.stdout);
  assert.match(activated.stdout, /^it ends 10 of 10 live streams, counted at \d{4}-.*Z$/m);
  assert.match(activated.stdout, /^it was 11 of 11 when it was held, \d{4}-.*Z$/m);
  for (const { how } of await Promise.all(ends)) assert.notEqual(how, 'fin');
  const after = (await statusOf(agent))['policy'] as { held?: HeldBundle; active: { sequence: number } };
  assert.deepEqual([after.held, after.active.sequence], [undefined, 1_000]);
  await eventually('the trail has both counts', () =>
    journal().includes('"detail":"10 of 10 live streams; 11 of 11 when it was held, ') ? true : undefined,
  );
  await eventually('who confirmed it is in the trail', () => {
    const line = journal()
      .split('\n')
      .find((one) => one.includes('policy.activated'));
    return line?.includes('SEC-42') && line.includes(held.id) ? true : undefined;
  });
  const away = await sallyport(['policy', 'status', '-c', file], { deadlineMs: 30_000 });
  assert.equal(away.code, 0);
  writeFileSync(`${file}.token`, 't_0123456789abcdef.x');
  const noRelay = ['--admin', 'http://127.0.0.1:1', '--token-file', `${file}.token`];
  const local = await sallyport(['status', '-c', file, ...noRelay]);
  assert.equal(local.code, 3, local.stderr);
  assert.match(local.stdout, /^agent: (not )?ready/m);
  assert.match(local.stderr, /management API at http:\/\/127\.0\.0\.1:1 does not answer/);
  await agent.close();
  const gone = await policy('status');
  assert.equal(gone.code, 3, gone.stderr);
  assert.match(gone.stderr, /no agent answers/);
});
