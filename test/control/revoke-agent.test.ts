import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openControl, type AgentLogin, type RevokeAgentView } from '../../src/control/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { type Api, apiFixture, keyOf } from './api-fixture.ts';
import { NAMESPACE, openNode, sql } from './control-fixture.ts';
import { eventually } from './feed-events.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

const revoke = async (api: Api, name: string, body: object = {}): Promise<RevokeAgentView> => {
  const answer = await api.call('post', `/agents/${name}/revoke`, body);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return answer.body as RevokeAgentView;
};

const revocationsOf = async (api: Api) =>
  ((await api.call('get', '/revocations')).body as { items: Record<string, unknown>[] }).items;

test('an agent is revoked on every node with an event, once; who does not enforce is pending', async (t) => {
  const { control, api, relayUrl, keyring, ownerUrl } = await apiFixture(t, postgres);
  const second = await openNode(t, relayUrl, { keyring, node: 'node-2' });
  const heard: string[] = [];
  control.revocations.onRevoked(({ agent, instance, kind }) => {
    assert.equal(
      control.revocations.isAgentRevoked('a-1', 'i1')?.kind,
      'identity_revoked',
      'in the same tick',
    );
    heard.push(`${agent} ${instance} ${kind}`);
    return { links: 2, streams: 7 };
  });
  const result = await revoke(api, 'a-1', { reason: 'stolen' });
  const { ms, pending, ...rest } = result;
  assert.ok(ms > 0);
  assert.deepEqual(rest, { agent: 'a-1', instance: null, nodes: 1, links: 2, streams: 7 });
  assert.deepEqual(
    pending.map(({ kind, name }) => `${kind} ${name}`),
    ['node node-2'],
    'node-2 has nobody that enforces',
  );
  assert.ok(second.revocations.isAgentRevoked('a-1', 'anything'));
  assert.equal(second.revocations.isAgentRevoked('a-2', 'i1'), undefined);
  assert.equal((await revoke(api, 'a-1', { reason: 'again' })).nodes, 1);
  await revoke(api, 'a-1', { instance: 'i1' });
  assert.deepEqual(heard, ['a-1 null identity_revoked'], 'revoked once; an installation of it is covered');

  await revoke(api, 'b', { instance: 'i1', reason: 'one of two' });
  assert.ok(control.revocations.isAgentRevoked('b', 'i1'));
  assert.equal(control.revocations.isAgentRevoked('b', 'i2'), undefined);

  const [newest, oldest] = await revocationsOf(api);
  assert.deepEqual([newest?.['agent'], newest?.['instance'], newest?.['key_id']], ['b', 'i1', null]);
  assert.deepEqual(
    [oldest?.['agent'], oldest?.['kind'], oldest?.['slot']],
    ['a-1', 'identity_revoked', null],
  );
  const shown = await api.call('get', `/revocations/${String(oldest?.['revocation_id'])}`);
  const { enforcement, reason } = shown.body as {
    enforcement: { nodes: number; pending: object[] };
    reason: string;
  };
  assert.deepEqual([reason, enforcement.nodes, enforcement.pending.length], ['stolen', 1, 1]);
  assert.equal((await api.call('get', `/revocations/${crypto.randomUUID()}`)).status, 404);
  const events = await sql(
    ownerUrl,
    `select event #>> '{subject,agent}' as agent, event #>> '{data,reason}' as reason from control.outbox
      where event ->> 'type' = 'identity.revoked' order by id`,
  );
  assert.deepEqual(events, [
    { agent: 'a-1', reason: 'stolen' },
    { agent: 'b', reason: 'one of two' },
  ]);
});

test('two who revoke one agent at once write one revocation', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  control.revocations.onRevoked(() => ({ links: 0, streams: 0 }));
  await Promise.all([revoke(api, 'a-1'), revoke(api, 'a-1'), revoke(api, 'a-1')]);
  assert.equal((await revocationsOf(api)).length, 1);
});

test('a dry run writes nothing and tells what every node has of it', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  const login: AgentLogin = {
    name: 'a-1',
    instance: 'i1',
    login_id: 'l',
    since: '2026-01-01T00:00:00.000Z',
    address: null,
    state: 'up',
    build: null,
    bundle_sha256: null,
    bundle_sequence: null,
    credentials: [],
    published: [],
    links: 2,
    streams: 5,
  };
  control.listAgents(() => [login, { ...login, instance: 'i2', links: 1, streams: 1 }]);
  await eventually(
    'both are written',
    async () => (await revoke(api, 'a-1', { dry_run: true })).logins === 2,
  );
  const whole = await revoke(api, 'a-1', { dry_run: true });
  assert.deepEqual(
    { ...whole, ms: 0 },
    {
      agent: 'a-1',
      instance: null,
      nodes: 1,
      links: 3,
      streams: 6,
      logins: 2,
      ms: 0,
      pending: [],
      dry_run: true,
    },
  );
  assert.equal((await revoke(api, 'a-1', { dry_run: true, instance: 'i2' })).links, 1);
  assert.deepEqual(await revocationsOf(api), []);
  assert.equal((await api.call('post', '/agents/A_1/revoke', {})).status, 400);
});

test('a node that starts over a restored database knows the agent, and the connection, and writes them back', async (t) => {
  const stateDirectory = temporaryDirectory(t, 'node');
  const first = await apiFixture(t, postgres, { control: { stateDirectory } });
  first.control.revocations.onRevoked(() => ({ links: 0, streams: 0 }));
  await first.api.create('orders');
  const connectionId = ((await first.api.call('get', '/connections/orders')).body as { id: string }).id;
  await revoke(first.api, 'a-1', { instance: 'i1', reason: 'stolen' });
  await first.api.call('delete', '/connections/orders');
  assert.ok(first.control.revocations.isConnectionRemoved(connectionId));
  const before = await revocationsOf(first.api);
  assert.equal(before.length, 6);
  await first.control.close();
  for (const statement of [
    'alter table control.revocation disable trigger user',
    'delete from control.revocation_ack',
    'delete from control.revocation',
    'alter table control.revocation enable trigger user',
  ])
    await sql(first.ownerUrl, statement);
  const again = await openControl({
    databaseUrl: first.relayUrl,
    keyring: first.keyring,
    namespace: NAMESPACE,
    node: 'node-1',
    stateDirectory,
    clock: systemClock,
    logger: silentLogger,
  });
  t.after(() => again.close());
  assert.equal(again.revocations.isAgentRevoked('a-1', 'i1')?.reason, 'stolen');
  assert.equal(again.revocations.isAgentRevoked('a-1', 'i2'), undefined);
  assert.ok(again.revocations.isConnectionRemoved(connectionId));
  again.start();
  await again.revocations.firstSync;
  const written = () =>
    sql(
      first.ownerUrl,
      'select revocation_id, agent, instance, kind from control.revocation order by 1 desc',
    );
  await eventually('written back', async () => (await written()).length === 6);
  assert.deepEqual(
    await written(),
    before.map(({ revocation_id, agent, instance, kind }) => ({ revocation_id, agent, instance, kind })),
  );
});

test('removing an auth-rule or a connection waits for every node and tells who is pending', async (t) => {
  const { control, api, relayUrl, keyring } = await apiFixture(t, postgres);
  control.revocations.onRevoked(() => ({ links: 1, streams: 2 }));
  const second = await openNode(t, relayUrl, { keyring, node: 'node-2' });
  keyOf(await api.create('orders'), 'defaultSender');
  const gone = await api.call('delete', '/auth-rules/orders/defaultSender');
  const pendingOf = ({ body }: { body: unknown }): string[] =>
    (body as { enforcement: { pending: { name: string }[] } }).enforcement.pending.map(({ name }) => name);
  assert.deepEqual(pendingOf(gone), ['node-2']);
  second.revocations.onRevoked(() => ({ links: 0, streams: 0 }));
  const removed = await api.call('delete', '/connections/orders');
  assert.deepEqual(
    { ...(removed.body as { enforcement: object }).enforcement, ms: 0 },
    // Two keys of defaultListener and the connection itself, each on two nodes.
    { nodes: 2, links: 3, streams: 6, ms: 0, pending: [] },
  );
});
