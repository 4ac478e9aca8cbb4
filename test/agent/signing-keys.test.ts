import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { z } from 'zod';
import { type AgentConfig, agentConfigSchema } from '../../src/agent/index.ts';
import { reloadFrom } from '../../src/cli/process/run.ts';
import { keySigner, signBundle } from '../../src/policy/index.ts';
import { makeKey, type TestKey } from '../policy/signing-support.ts';
import { managedPlace } from '../support/managed-place.ts';
import { dial, readToEnd } from '../support/sockets.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { startEnds, statusOf, untilReady } from './ends-fixture.ts';
import { MemoryAudit } from './memory-audit.ts';

const DEADLINE = { timeout: 60_000 };
const [old, fresh] = [makeKey('ES256'), makeKey('ES256')];

const echoTo = (socket: Socket): void => {
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('end', () => socket.end());
};

const openStream = async (t: TestContext, listen: string): Promise<Socket> => {
  const socket = dial(t, listen);
  socket.on('error', () => undefined);
  socket.write('x');
  await once(socket, 'data');
  return socket;
};

const entry = (key: TestKey, id: string) => ({ id, algorithm: key.algorithm, public_key: key.publicPem });

/** The same configuration with other keys, as agent.yaml would give it. */
const withKeys = (config: AgentConfig, keys: ReturnType<typeof entry>[]): AgentConfig =>
  agentConfigSchema.parse({ ...config, policy: { ...config.policy, require_signed: true, keys } });

const startSigned = async (t: TestContext) => {
  const audit = new MemoryAudit();
  const place = managedPlace(t);
  const ends = await startEnds(t, echoTo, { agent: { deps: { audit, managedLocation: place.location } } });
  const { agent, config, bundleFile } = ends.started;
  writeFileSync(bundleFile, await signBundle(readFileSync(bundleFile), keySigner(old.privatePem), 'old'));
  await agent.reload(withKeys(config, [entry(old, 'old')]));
  await untilReady(agent);
  await untilReady(ends.gateway);
  return { ...ends, agent, config, place, audit };
};

test(
  'a signing key taken out at SIGHUP ends what it allowed; put back, it allows again',
  DEADLINE,
  async (t) => {
    const { agent, config, audit, listen, gateway } = await startSigned(t);
    const socket = await openStream(t, listen);
    await agent.reload(withKeys(config, [entry(fresh, 'fresh'), entry(old, 'old')]));
    socket.write('y');
    await once(socket, 'data');

    const end = readToEnd(socket);
    await agent.reload(withKeys(config, [entry(fresh, 'fresh')]));
    assert.equal((await end).how, 'ECONNRESET');
    assert.equal((await audit.until('stream.close')).data.reason, 'no_bundle');
    const gone = /signed by 'old', which is none of the keys that count now/;
    const isGone = ({ data }: { data: { code: string; detail?: unknown } }): boolean =>
      data.code === 'bundle_untrusted' && gone.test(String(data.detail));
    await audit.until('policy.error', isGone);
    await audit.until('bundle.rejected', ({ data }) => data.reason === 'ERR_POLICY_SIGNATURE');
    const change = audit.of('admin.action').at(-1);
    assert.equal(change?.data.action, 'policy.keys_changed');
    assert.deepEqual((change.data.detail as { after: unknown }).after, {
      require_signed: true,
      keys: ['fresh (ES256)'],
    });
    const ready = await fetch(`${agent.statusUrl}/readyz`);
    assert.equal(ready.status, 503);
    assert.match(await ready.text(), /no policy bundle is active: none of the configured keys verifies/);
    const { policy } = (await statusOf(agent)) as { policy: { withdrawn: { signedBy: string } } };
    assert.equal(policy.withdrawn.signedBy, 'old');
    assert.equal((await readToEnd(dial(t, listen))).how, 'ECONNRESET');

    await agent.reload(withKeys(config, [entry(old, 'old')]));
    await untilReady(agent);
    await untilReady(gateway);
    await openStream(t, listen);
  },
);

test('signing keys of managed settings count without a restart, and only they', DEADLINE, async (t) => {
  const { agent, place, listen, audit, gateway } = await startSigned(t);
  const kept = await openStream(t, listen);
  const managed = (key: TestKey): string => `signing_keys: ${JSON.stringify([entry(key, 'managed')])}\n`;
  place.put(managed(old));
  await agent.reloadManaged();
  kept.write('y');
  await once(kept, 'data');
  const end = readToEnd(kept);
  place.put(managed(fresh));
  await agent.reloadManaged();
  assert.equal((await end).how, 'ECONNRESET');
  await audit.until('policy.error', ({ data }) => data.code === 'bundle_untrusted');
  assert.equal((await readToEnd(dial(t, listen))).how, 'ECONNRESET');
  place.remove();
  await agent.reloadManaged();
  await untilReady(agent);
  await untilReady(gateway);
  await openStream(t, listen);
});

test('a broken agent.yaml changes nothing and keeps managed settings from nothing', DEADLINE, async (t) => {
  const { agent, place, listen } = await startSigned(t);
  const kept = await openStream(t, listen);
  const file = join(temporaryDirectory(t, 'broken'), 'agent.yaml');
  writeFileSync(file, 'policy: {keys: [}\n');
  await assert.rejects(reloadFrom(file, agentConfigSchema, agent), /agent\.yaml/);
  kept.write('y');
  await once(kept, 'data');
  const end = readToEnd(kept);
  place.put('connections: disabled\n');
  await assert.rejects(reloadFrom(file, agentConfigSchema, agent), /agent\.yaml/);
  assert.equal((await end).how, 'ECONNRESET');
});

test('a process without managed settings refuses a broken file as before', async (t) => {
  const file = join(temporaryDirectory(t, 'broken'), 'relay.yaml');
  writeFileSync(file, 'n: x\n');
  const taken: unknown[] = [];
  const started = {
    reload: (config: unknown) => {
      taken.push(config);
      return Promise.resolve();
    },
  };
  const schema = z.strictObject({ n: z.number() });
  await assert.rejects(reloadFrom(file, schema, started), /relay\.yaml/);
  assert.deepEqual(taken, []);
  writeFileSync(file, 'n: 1\n');
  await reloadFrom(file, schema, started);
  assert.deepEqual(taken, [{ n: 1 }]);
});
