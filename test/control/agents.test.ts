import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { AgentLogin, AgentView } from '../../src/control/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type Api, apiFixture, openApi } from './api-fixture.ts';
import { openNode, sql } from './control-fixture.ts';
import { eventually } from './feed-events.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

const loginOf = (name: string, instance: string, more: Partial<AgentLogin> = {}): AgentLogin => ({
  name,
  instance,
  login_id: `login-${instance}`,
  since: '2026-01-02T00:00:00.000Z',
  address: '192.0.2.1',
  state: 'up',
  build: '1.2.3',
  bundle_sha256: 'a'.repeat(64),
  bundle_sequence: 7,
  credentials: [{ connection: 'orders', key_id: 'k_00000000000000000001', principal: 'defaultListener' }],
  published: ['orders'],
  links: 1,
  streams: 5,
  ...more,
});

const agentsOf = async (api: Api, query = ''): Promise<readonly AgentView[]> => {
  const answer = await api.call('get', `/agents${query}`);
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return (answer.body as { items: AgentView[] }).items;
};

test('an agent is listed once, with every live node that it is logged in at, from whichever node is asked', async (t) => {
  const { control, api, relayUrl, keyring, ownerUrl } = await apiFixture(t, postgres);
  let atFirst: AgentLogin[] = [loginOf('a-1', 'i1'), loginOf('b-1', 'i9', { streams: 0 })];
  control.listAgents(() => atFirst);
  const second = await openNode(t, relayUrl, { keyring, node: 'node-2' });
  second.listAgents(() => [
    loginOf('a-1', 'i1', {
      since: '2026-01-01T00:00:00.000Z',
      published: ['bills'],
      links: 2,
      login_id: 'x',
    }),
  ]);
  await eventually('both nodes wrote', async () => (await agentsOf(api))[0]?.nodes.length === 2);
  const [agent, other] = await agentsOf(api);
  assert.deepEqual(agent, {
    name: 'a-1',
    instance: 'i1',
    since: '2026-01-01T00:00:00.000Z',
    build: '1.2.3',
    bundle_sha256: 'a'.repeat(64),
    bundle_sequence: 7,
    credentials: [{ connection: 'orders', key_id: 'k_00000000000000000001', principal: 'defaultListener' }],
    published: ['bills', 'orders'],
    links: 3,
    streams: 5,
    nodes: [
      {
        node: 'node-1',
        login_id: 'login-i1',
        since: '2026-01-02T00:00:00.000Z',
        address: '192.0.2.1',
        state: 'up',
        published: ['orders'],
        links: 1,
      },
      {
        node: 'node-2',
        login_id: 'x',
        since: '2026-01-01T00:00:00.000Z',
        address: '192.0.2.1',
        state: 'up',
        published: ['bills'],
        links: 2,
      },
    ],
  });
  assert.equal(other?.name, 'b-1');

  atFirst = [loginOf('a-1', 'i1', { published: [] })];
  await eventually('what changed is written soon', async () => (await agentsOf(api)).length === 1);
  assert.deepEqual((await agentsOf(api))[0]?.published, ['bills']);

  await second.close();
  assert.deepEqual(
    (await agentsOf(api))[0]?.nodes.map(({ node }) => node),
    ['node-1'],
    'a node that left has nobody',
  );
  // A node that does not come to its heartbeat is not believed either.
  await control.close();
  const watcher = await openNode(t, relayUrl, { keyring, node: 'node-3' });
  const watched = await openApi(t, watcher);
  await sql(
    ownerUrl,
    `update control.node set left_at = null, last_seen_at = now() - interval '13 s' where name = 'node-1'`,
  );
  assert.deepEqual(await agentsOf(watched), []);
});

test('agents are paged by name and instance, and narrowed by both', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  const all = ['a-1 i1', 'a-1 i2', 'a-2 i1', 'b i1', 'b-0 i3'];
  control.listAgents(() =>
    all.map((text) => {
      const [name = '', instance = ''] = text.split(' ');
      return loginOf(name, instance);
    }),
  );
  await eventually('written', async () => (await agentsOf(api)).length === all.length);
  const seen: string[] = [];
  let cursor = '';
  for (;;) {
    const answer = await api.call('get', `/agents?limit=2${cursor}`);
    const { items, next } = answer.body as { items: AgentView[]; next: string | null };
    seen.push(...items.map(({ name, instance }) => `${name} ${instance}`));
    if (next === null) break;
    cursor = `&cursor=${next}`;
  }
  assert.deepEqual(seen, all);
  assert.equal((await agentsOf(api, '?name=a-1')).length, 2);
  assert.equal((await agentsOf(api, '?name=a-1&instance=i2')).length, 1);
  assert.equal((await api.call('get', '/agents?name=A')).status, 400);
});
