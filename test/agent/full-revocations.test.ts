import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { MAX_REVOCATIONS } from '../../src/agent/revocations.ts';
import { eventually } from '../support/eventually.ts';
import { dial, readToEnd } from '../support/sockets.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { startEnds } from './ends-fixture.ts';

test('an agent that can keep no further revocation serves nothing new, says so, and stays pending', async (t) => {
  const stateDir = join(temporaryDirectory(t, 'full'), 'state');
  mkdirSync(stateDir, { recursive: true });
  const revocations = Array.from({ length: MAX_REVOCATIONS - 1 }, (_, index) => ({
    key_id: `k_old_${index}`,
    reason: 'key_revoked',
    revocation_id: `r${index}`,
    nodes: ['node-1'],
    told_at_ms: 0,
  }));
  writeFileSync(join(stateDir, 'revocations.json'), JSON.stringify({ v: 1, revocations }), { mode: 0o600 });
  const { relay, listen, started } = await startEnds(t, (socket) => socket.pipe(socket), {
    agent: { config: { state_dir: stateDir } },
  });
  const held = dial(t, listen);
  held.on('error', () => undefined);
  held.write('x');
  await once(held, 'data');
  const pendingAgents = (): readonly string[] | undefined =>
    relay.control.acknowledged.at(-1)?.ack.pendingAgents?.map(({ name }) => name);

  relay.control.revoke('k_last');
  await eventually('the last that there is room for is confirmed', () =>
    pendingAgents()?.length === 0 ? true : undefined,
  );
  const ready = await fetch(`${started.agent.statusUrl}/readyz`);
  assert.equal(ready.status, 503);
  assert.match(await ready.text(), /keeps 100000 revocations, as many as it may, and serves nothing/);
  assert.equal((await readToEnd(dial(t, listen))).how, 'ECONNRESET');
  held.write('y');
  await once(held, 'data');

  relay.control.revoke('k_send');
  assert.equal((await readToEnd(held)).how, 'ECONNRESET', 'what cannot be kept is cut all the same');
  await relay.audit.until(
    ({ type, subject }) => type === 'revocation.enforced' && subject.key_id === 'k_send',
  );
  assert.deepEqual(pendingAgents(), ['agent-1']);
});
