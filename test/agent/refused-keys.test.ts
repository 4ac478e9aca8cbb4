import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextStepOf, RefusedKeys } from '../../src/agent/refused-keys.ts';
import { formatConnectionString, newKeyText } from '../../src/identity/index.ts';
import { NAMESPACE } from '../relay/relay-fixture.ts';
import { eventually } from '../support/eventually.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { CONNECTION, startEnds, startTestAgent, startTestRelay, statusOf } from './ends-fixture.ts';

const reasonsOf = async (process: { readonly statusUrl: string }): Promise<readonly string[]> => {
  const response = await fetch(`${process.statusUrl}/readyz`);
  return ((await response.json()) as { reasons: readonly string[] }).reasons;
};

const untilSaid = (process: { readonly statusUrl: string }, words: string): Promise<string> =>
  eventually(words, async () => (await reasonsOf(process)).find((reason) => reason.includes(words)));

test('an agent with a wrong key says which, for which connection, and what to do', async (t) => {
  const relay = await startTestRelay(t, 5_432);
  const key = { host: NAMESPACE, keyName: 'k_wrong', key: newKeyText(), entityPath: CONNECTION };
  const { agent } = await startTestAgent(t, relay, 5_432, {
    config: { connections: [{ connection_string: formatConnectionString(key) }] },
  });
  const said = await untilSaid(agent, 'not_authorized: ');
  assert.ok(await untilSaid(agent, 'connection db is not offered: '));
  const reason =
    (await reasonsOf(agent)).find((one) => one.startsWith('connection db is not offered: ')) ?? '';
  assert.match(
    reason,
    /^connection db is not offered: \S+ refuses its key of auth-rule k_wrong: not_authorized: .*; .*`sallyport key find`/,
  );
  assert.ok(
    !JSON.stringify([said, reason, await statusOf(agent)]).includes(key.key),
    'the key in no message',
  );
});

test('an agent whose key is revoked says so, and how to go on', async (t) => {
  const { relay, started } = await startEnds(t, (socket) => void socket.pipe(socket));
  assert.deepEqual((await statusOf(started.agent))['refused_keys'], []);
  relay.control.revoke('k_listen');
  const reason = await untilSaid(started.agent, 'refuses its key of auth-rule k_listen: key_revoked: ');
  assert.match(reason, /^connection db is not offered: .*`sallyport key rotate CONNECTION\/RULE/);
  const [refused] = (await statusOf(started.agent))['refused_keys'] as Record<string, string>[];
  assert.deepEqual(
    [refused?.['connection'], refused?.['key_name'], refused?.['code'], refused?.['node']],
    [CONNECTION, 'k_listen', 'key_revoked', relay.config.host],
  );
  assert.equal(refused?.['next_step'], nextStepOf('key_revoked'));
});

test('a key is refused since it was first, until a node takes it or it is let go', () => {
  const clock = new ManualClock();
  const keys = new RefusedKeys(clock);
  const source = (handle: string) => ({
    handle,
    connection: 'db',
    keyName: `rule-${handle}`,
    mint: () => ({ token: '', expiresAtMs: 0 }),
  });
  const [one, other] = [source('one'), source('other')];
  const firstMs = clock.nowMs();
  keys.refuse('n1', one, { code: 'key_revoked', detail: 'dropped' });
  clock.advance(1_000);
  keys.refuse('n1', one, { code: 'key_revoked', detail: 'key k_1 is revoked' });
  keys.refuse('n2', one, { code: 'claim_missing', detail: 'Listen' });
  keys.refuse('n1', other, { code: 'not_authorized', detail: 'no' });
  const shown = keys.of([one]).map(({ node, code, detail, atMs }) => [node, code, detail, atMs - firstMs]);
  assert.deepEqual(shown, [
    ['n1', 'key_revoked', 'key k_1 is revoked', 0],
    ['n2', 'claim_missing', 'Listen', 1_000],
  ]);
  keys.accept('n1', 'one');
  assert.deepEqual(
    keys.of([one, other]).map(({ node, keyName }) => [node, keyName]),
    [
      ['n2', 'rule-one'],
      ['n1', 'rule-other'],
    ],
  );
  assert.equal(nextStepOf('constructor'), undefined);
});
