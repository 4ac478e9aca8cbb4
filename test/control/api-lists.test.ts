import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { LinkInfo, LoginInfo, StreamInfo } from '../../src/control/index.ts';
import { MAX_AUTH_RULES_PER_SCOPE } from '../../src/control/auth-rule-store.ts';
import { KeyUsage, MAX_SOURCES_PER_KEY } from '../../src/control/key-usage.ts';
import { MAX_RETIRE_AFTER_S } from '../../src/control/key-rotation.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { Database } from '../../src/control/database.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type Api, apiFixture } from './api-fixture.ts';
import { liveStateOf, NAMESPACE, sql } from './control-fixture.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

const idOf = (number: number): string => `0190a0b0-0000-7000-8000-${number.toString(16).padStart(12, '0')}`;
const AT = '2026-01-01T00:00:00.000Z';

const stream = (number: number): StreamInfo => ({
  stream_id: idOf(number),
  connection: number % 2 === 0 ? 'even' : 'odd',
  principal: 'p',
  key_id: 'k_00000000000000000001',
  agent: 'a',
  gateway: 'g',
  target: 'db.internal:5432',
  opened_at: AT,
  bytes_up: 1,
  bytes_down: 2,
  policy_rule: null,
});
const link = (number: number): LinkInfo => ({
  link_id: idOf(number),
  node: 'node-1',
  connection: 'odd',
  carrier: 'tcp',
  state: 'joined',
  gateway: 'g',
  agent: 'a',
  sender_principal: 'p',
  sender_key_id: 'k_00000000000000000001',
  listener_principal: 'l',
  listener_key_id: 'k_00000000000000000002',
  opened_at: AT,
  bytes_up: 0,
  bytes_down: 0,
});
const login = (number: number): LoginInfo => ({
  login_id: idOf(number),
  node: 'node-1',
  role: 'agent',
  name: 'a',
  instance: 'i',
  address: null,
  opened_at: AT,
  state: 'up',
  build: null,
  bundle_sha256: null,
  credentials: [],
  published: [],
});

interface Page {
  readonly items: readonly Record<string, string>[];
  readonly next: string | null;
}

/** Every page of a list, each held to its limit. */
const pagesOf = async (api: Api, path: string, limit: number): Promise<Page['items'][]> => {
  const pages: Page['items'][] = [];
  let cursor = '';
  do {
    const glue = path.includes('?') ? '&' : '?';
    const answer = await api.call('get', `${path}${glue}limit=${limit}${cursor}`);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    const { items, next } = answer.body as Page;
    assert.ok(items.length <= limit);
    pages.push(items);
    cursor = next === null ? '' : `&cursor=${next}`;
  } while (cursor !== '');
  return pages;
};

test('live lists come in pages, each thing once, in the order of ids; a stream is found by its id', async (t) => {
  // Unordered on purpose: what is in memory comes in any order.
  const numbers = [5, 1, 4, 2, 3];
  const live = liveStateOf({
    streamList: numbers.map(stream),
    links: () => numbers.map(link),
    logins: () => numbers.map(login),
  });
  const { api } = await apiFixture(t, postgres, { live });
  const ids = [1, 2, 3, 4, 5].map(idOf);
  for (const [path, key] of [
    ['/streams', 'stream_id'],
    ['/links', 'link_id'],
    ['/logins', 'login_id'],
  ] as const) {
    const pages = await pagesOf(api, path, 2);
    assert.deepEqual(
      pages.map((items) => items.length),
      [2, 2, 1],
      path,
    );
    assert.deepEqual(
      pages.flat().map((item) => item[key]),
      ids,
      path,
    );
    assert.equal((await api.call('get', `${path}?limit=1001`)).status, 400, path);
    assert.equal((await api.call('get', `${path}?cursor=x`)).status, 400, path);
  }
  const odd = await pagesOf(api, '/streams?connection=odd', 2);
  assert.deepEqual(
    odd.flat().map((item) => item['stream_id']),
    [1, 3, 5].map(idOf),
  );
  assert.deepEqual((await api.call('get', `/streams/${idOf(3)}`)).body, stream(3));
  const gone = await api.call('get', `/streams/${idOf(9)}`);
  assert.deepEqual([gone.status, (gone.body as { code: string }).code], [404, 'not_found']);
  assert.equal((await api.call('get', '/streams/x')).status, 400);
});

test('nodes and key usage come in pages', async (t) => {
  const { api, ownerUrl } = await apiFixture(t, postgres);
  await sql(
    ownerUrl,
    `insert into control.node (name, instance) select 'node-' || n, 'i' from generate_series(2, 5) as n`,
  );
  const nodes = await pagesOf(api, '/nodes', 2);
  assert.deepEqual(
    nodes.flat().map((item) => item['name']),
    ['node-1', 'node-2', 'node-3', 'node-4', 'node-5'],
  );
  await sql(
    ownerUrl,
    `insert into control.key_usage
     select 'k_' || lpad(n::text, 20, '0'), '192.0.2.' || s, 'orders', 'r', 'primary', now(), now(), 1
       from generate_series(1, 5) as n, generate_series(1, 3) as s`,
  );
  const usage = await pagesOf(api, '/key-usage', 2);
  assert.deepEqual(
    usage.map((items) => items.map((item) => [item['key_id']?.at(-1), item['use_count']])),
    [
      [
        ['1', 3],
        ['2', 3],
      ],
      [
        ['3', 3],
        ['4', 3],
      ],
      [['5', 3]],
    ],
  );
});

test('a key keeps its latest sources; all others share one row, and no use is lost', async (t) => {
  const { ownerUrl, relayUrl } = await apiFixture(t, postgres);
  const database = new Database(relayUrl, silentLogger);
  t.after(() => database.close());
  const usage = new KeyUsage({ database, clock: systemClock, logger: silentLogger } as never);
  t.after(() => usage.stop());
  const use = (source: string): void =>
    usage.note({ keyId: 'k_1', connection: 'orders', authRule: 'r', slot: 'primary', source });
  await sql(
    ownerUrl,
    `insert into control.key_usage
     select 'k_1', '2001:db8::' || to_hex(n), 'orders', 'r', 'primary', now(), now() - interval '1 day', 2
       from generate_series(1, ${MAX_SOURCES_PER_KEY}) as n`,
  );
  for (let n = 1; n <= 10; n += 1) use(`192.0.2.${n}`);
  await usage.flush();
  use('192.0.2.1');
  use('192.0.2.11');
  await usage.flush();
  const [row] = await sql(
    ownerUrl,
    `select count(*) filter (where source <> '*')::int as kept, sum(use_count)::int as uses,
       count(*) filter (where source like '192.0.2.%')::int as latest,
       sum(use_count) filter (where source = '*')::int as others from control.key_usage where key_id = 'k_1'`,
  );
  assert.deepEqual(row, {
    kept: MAX_SOURCES_PER_KEY,
    uses: 2 * MAX_SOURCES_PER_KEY + 12,
    latest: 11,
    others: 22,
  });
});

test('an auth-rule has a version: the second of two who rotate or delete it is told', async (t) => {
  const { api } = await apiFixture(t, postgres);
  await api.create('orders');
  const path = '/auth-rules/orders/defaultSender';
  const at = (version: number) => ({ headers: { 'If-Match': `"${version}"` } });
  assert.equal((await api.call('get', path)).headers['etag'], '"1"');
  const both = await Promise.all(
    [1, 2].map(() => api.call('post', `${path}/rotate`, { slot: 'primary' }, at(1))),
  );
  assert.deepEqual(both.map((answer) => answer.status).sort(), [200, 412]);
  assert.equal(both.find((answer) => answer.status === 200)?.headers['etag'], '"2"');
  const late = await api.call('delete', path, undefined, at(1));
  assert.deepEqual([late.status, (late.body as { code: string }).code], [412, 'version_mismatch']);
  assert.equal(((await api.call('get', path)).body as { version: number }).version, 2);
  assert.equal((await api.call('delete', path, undefined, at(2))).status, 200);
  assert.equal((await api.call('get', path)).status, 404);
});

test('the limit of auth-rules holds when several are made at once, in a connection and in the namespace', async (t) => {
  const { api, ownerUrl } = await apiFixture(t, postgres);
  await api.create('orders');
  for (const [scope, connection] of [
    ['orders', `(select id from control.connection where name = 'orders')`],
    ['namespace', 'null::uuid'],
  ] as const) {
    await sql(
      ownerUrl,
      `insert into control.auth_rule (id, namespace, connection_id, name, claims)
       select gen_random_uuid(), $1, ${connection}, 'r' || n, '{Send}' from generate_series(1, $2 - 1 - (
         select count(*)::int from control.auth_rule where connection_id is not distinct from ${connection})) as n`,
      [NAMESPACE, MAX_AUTH_RULES_PER_SCOPE],
    );
    const made = await Promise.all(
      [1, 2, 3, 4].map((n) => api.call('post', '/auth-rules', { scope, name: `new-${n}`, claims: ['Send'] })),
    );
    assert.deepEqual(made.map((answer) => answer.status).sort(), [201, 400, 400, 400], scope);
    const refused = made.find((answer) => answer.status === 400)?.body as { detail: string };
    assert.match(refused.detail, new RegExp(`there are ${MAX_AUTH_RULES_PER_SCOPE} auth-rules already`));
  }
});

test('bodies that cannot be left out are marked as required, and If-Match where it is heeded', async (t) => {
  const { api } = await apiFixture(t, postgres);
  const document = (await api.call('get', '/openapi.json')).body as {
    paths: Record<
      string,
      Record<string, { requestBody?: { required: boolean }; parameters: { name: string }[] }>
    >;
  };
  const required: string[] = [];
  const optional: string[] = [];
  const heeding: string[] = [];
  for (const [path, methods] of Object.entries(document.paths))
    for (const [method, operation] of Object.entries(methods)) {
      const name = `${method} ${path}`;
      if (operation.requestBody !== undefined)
        (operation.requestBody.required ? required : optional).push(name);
      if (operation.parameters.some((parameter) => parameter.name === 'If-Match')) heeding.push(name);
    }
  assert.deepEqual(required.sort(), [
    'post /auth-rules',
    'post /auth-rules/{scope}/{name}/rotate',
    'post /connections',
    'post /tokens',
  ]);
  for (const name of optional) {
    const [method, path] = name.split(' ');
    const answer = await api.call(
      method as 'post' | 'patch',
      (path ?? '')
        .replace('{key_id}', 'k_00000000000000000000')
        .replace('{stream_id}', idOf(1))
        .replace('{name}', 'none')
        .replace('{token_id}', 't_0000000000000000'),
    );
    assert.notEqual(answer.status, 400, `${name} without a body: ${JSON.stringify(answer.body)}`);
  }
  assert.deepEqual(heeding.sort(), [
    'delete /auth-rules/{scope}/{name}',
    'delete /connections/{name}',
    'patch /connections/{name}',
    'post /auth-rules/{scope}/{name}/rotate',
  ]);
});

test('a replaced key goes on for 90 days at most', async (t) => {
  const { api, ownerUrl } = await apiFixture(t, postgres);
  await api.create('orders');
  const rotate = (seconds: number) =>
    api.call('post', '/auth-rules/orders/defaultSender/rotate', {
      slot: 'primary',
      retire_after_seconds: seconds,
    });
  const refused = await rotate(MAX_RETIRE_AFTER_S + 1);
  assert.equal(refused.status, 400);
  assert.match((refused.body as { detail: string }).detail, /^body\.retire_after_seconds: .*7776000/);
  const taken = await rotate(MAX_RETIRE_AFTER_S);
  assert.equal(taken.status, 200);
  const [row] = await sql(
    ownerUrl,
    'select extract(epoch from effective_at - created_at)::int as seconds from control.revocation',
  );
  assert.equal(row?.['seconds'], MAX_RETIRE_AFTER_S);
});
