import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import request from 'supertest';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { type Api, apiFixture, keyOf } from './api-fixture.ts';
import { liveStateOf, sql } from './control-fixture.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

interface ProblemBody {
  readonly type: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly errors?: readonly { path: string; message: string; value?: string }[];
}

const problem = async (made: ReturnType<Api['call']>, status: number, code: string): Promise<ProblemBody> => {
  const response = await made;
  assert.equal(response.status, status, JSON.stringify(response.body));
  assert.match(response.headers['content-type'] ?? '', /^application\/problem\+json/);
  const body = response.body as ProblemBody;
  assert.deepEqual([body.status, body.code, body.type], [status, code, `urn:sallyport:problem:${code}`]);
  return body;
};

const target = { host: 'db.internal', port: 5432 };

test('a token is always asked for, and its role bounds what it may', async (t) => {
  const { api } = await apiFixture(t, postgres);
  for (const path of ['/connections', '/openapi.json', '/nothing']) {
    await problem(api.call('get', path, undefined, { token: 'x' }), 401, 'token_invalid');
    const bare = await request(api.url).get(`/api/v1${path}`);
    assert.deepEqual([bare.status, (bare.body as ProblemBody).code], [401, 'token_missing']);
    assert.match(bare.headers['www-authenticate'] ?? '', /^Bearer/);
  }
  const tokenFor = async (role: string): Promise<{ id: string; token: string }> =>
    (await api.call('post', '/tokens', { label: role, role })).body as { id: string; token: string };
  const auditor = await tokenFor('auditor');
  const operator = await tokenFor('operator');
  const as = (token: string) => ({ token });
  assert.equal((await api.call('get', '/connections', undefined, as(auditor.token))).status, 200);
  await problem(
    api.call('post', '/connections', { name: 'a', target }, as(auditor.token)),
    403,
    'role_insufficient',
  );
  const made = await api.call('post', '/connections', { name: 'a', target }, as(operator.token));
  assert.equal(made.status, 201);
  const key = keyOf((made.body as { keys: never[] }).keys, 'defaultSender');
  await problem(
    api.call('post', `/keys/${key.key_id}/disclose`, {}, as(operator.token)),
    403,
    'role_insufficient',
  );
  await problem(api.call('get', '/tokens', undefined, as(operator.token)), 403, 'role_insufficient');
  assert.equal((await api.call('post', `/tokens/${operator.id}/revoke`)).status, 200);
  await problem(api.call('get', '/connections', undefined, as(operator.token)), 401, 'token_invalid');
});

test('an expired token is refused', async (t) => {
  const { api, ownerUrl } = await apiFixture(t, postgres);
  const body = { label: 'short', role: 'auditor', expires_after_seconds: 60 };
  const made = (await api.call('post', '/tokens', body)).body as { id: string; token: string };
  assert.equal((await api.call('get', '/nodes', undefined, { token: made.token })).status, 200);
  await sql(ownerUrl, `update control.token set expires_at = now() - interval '1 s' where id = $1`, [
    made.id,
  ]);
  await problem(api.call('get', '/nodes', undefined, { token: made.token }), 401, 'token_invalid');
});

test('a Host that is not this listener is refused before the token is looked at; no CORS', async (t) => {
  const { api } = await apiFixture(t, postgres);
  await problem(
    api.call('get', '/connections', undefined, { headers: { Host: 'evil.example' } }),
    421,
    'host_not_allowed',
  );
  const preflight = await request(api.url)
    .options('/api/v1/connections')
    .set('Origin', 'https://evil.example');
  assert.equal(preflight.status, 401);
  const allowed = await api.call('get', '/connections', undefined, {
    headers: { Origin: 'https://evil.example' },
  });
  assert.equal(allowed.headers['access-control-allow-origin'], undefined);
  assert.equal(allowed.headers['x-powered-by'], undefined);
  assert.equal(allowed.headers['cache-control'], 'no-store');
});

test('a connection from creation to deletion, with If-Match', async (t) => {
  const { api } = await apiFixture(t, postgres);
  const made = await api.call('post', '/connections', {
    name: 'orders',
    target,
    labels: { owner: 'team-a' },
  });
  assert.equal(made.status, 201);
  assert.equal(made.headers['etag'], '"1"');
  const keys = (made.body as { keys: { auth_rule: string; slot: string; connection_string: string }[] }).keys;
  assert.deepEqual(
    keys.map((key) => `${key.auth_rule} ${key.slot}`),
    [
      'defaultListener primary',
      'defaultListener secondary',
      'defaultSender primary',
      'defaultSender secondary',
    ],
  );
  assert.match(
    keys[0]?.connection_string ?? '',
    /^Endpoint=sb:\/\/relay\.example\.com\/;.*;EntityPath=orders$/,
  );
  await problem(api.call('post', '/connections', { name: 'orders', target }), 409, 'exists');
  const changed = await api.call(
    'patch',
    '/connections/orders',
    { target: { ...target, port: 5433 } },
    { headers: { 'If-Match': '"1"' } },
  );
  assert.equal(changed.headers['etag'], '"2"');
  const stale = { headers: { 'If-Match': '"1"' } };
  await problem(api.call('patch', '/connections/orders', { labels: {} }, stale), 412, 'version_mismatch');
  await problem(api.call('delete', '/connections/orders', undefined, stale), 412, 'version_mismatch');
  const got = await api.call('get', '/connections/orders');
  assert.deepEqual((got.body as { target: object; labels: object }).target, { ...target, port: 5433 });
  const gone = await api.call('delete', '/connections/orders');
  const { enforcement, ...removed } = gone.body as { enforcement: { pending: object[] } };
  assert.deepEqual(removed, { name: 'orders', revoked_keys: 4 });
  assert.deepEqual(
    enforcement.pending.map((one) => ({ ...one, since: '' })),
    [{ kind: 'node', name: 'node-1', since: '' }],
    'this node enforces nothing, so it is pending',
  );
  await problem(api.call('get', '/connections/orders'), 404, 'not_found');
  const revocations = (await api.call('get', '/revocations')).body as { items: { kind: string }[] };
  assert.deepEqual(
    revocations.items.map((one) => one.kind),
    // Four keys and the connection itself.
    Array(5).fill('connection_removed'),
  );
});

test('lists are paged by opaque cursors', async (t) => {
  const { api } = await apiFixture(t, postgres);
  for (const name of ['a', 'b-1', 'b', 'c', '0']) await api.create(name);
  const names: string[] = [];
  let cursor = '';
  for (let pages = 0; pages < 10; pages += 1) {
    const page = (await api.call('get', `/connections?limit=2${cursor}`)).body as {
      items: { name: string }[];
      next: string | null;
    };
    names.push(...page.items.map((one) => one.name));
    if (page.next === null) break;
    cursor = `&cursor=${page.next}`;
  }
  assert.deepEqual(names, ['0', 'a', 'b', 'b-1', 'c']);
  for (const path of ['/keys', '/auth-rules', '/tokens', '/revocations']) {
    assert.equal((await api.call('get', `${path}?limit=1`)).status, 200);
    await problem(api.call('get', `${path}?cursor=AAAA`), 400, 'invalid');
    await problem(api.call('get', `${path}?limit=201`), 400, 'invalid');
  }
  const all = (await api.call('get', '/keys?limit=200')).body as { items: object[] };
  assert.equal(all.items.length, 2 + 5 * 4);
});

test('malformed input is 400 with field, value and limit; poison text is never a 500', async (t) => {
  const { api } = await apiFixture(t, postgres);
  await api.create('orders');
  const long = await problem(
    api.call('post', '/connections', { name: 'x'.repeat(64), target }),
    400,
    'invalid',
  );
  assert.match(long.detail, /^body\.name: .*63/);
  assert.equal(long.errors?.[0]?.value, 'x'.repeat(64));
  const poison = [
    '\u0000',
    '\ud800',
    'a\u0000b',
    '\udc00x',
    '\u001b[2J',
    '../..',
    'ORDERS',
    '',
    'fe80::1%eth0',
    ' ',
  ];
  for (const text of poison) {
    await problem(api.call('post', '/connections', { name: text, target }), 400, 'invalid');
    await problem(
      api.call('post', '/connections', {
        name: 'n',
        target: { ...target, host: text === 'ORDERS' ? '\u0000' : text },
      }),
      400,
      'invalid',
    );
    await problem(
      api.call('post', '/auth-rules', { scope: 'orders', name: `${text}\u0000`, claims: ['Send'] }),
      400,
      'invalid',
    );
  }
  for (const text of ['\u0000', '\u001b[2J', '\u202e', '\udc00']) {
    for (const body of [
      { name: 'n', target, labels: { [text]: 'x' } },
      { name: 'n', target, labels: { [`a${text}`]: 7 } },
      { name: 'n', target, [text]: 1 },
    ]) {
      const answer = await api.call('post', '/connections', body);
      assert.equal(answer.status, 400);
      for (const { path, message } of (answer.body as { errors: { path: string; message: string }[] })
        .errors) {
        assert.ok(!path.includes(text) && !message.includes(text), `${path}: ${message}`);
      }
    }
  }
  for (const text of ['\u0000', '\ud800', '\u001b[2J']) {
    await problem(
      api.call('post', '/connections', { name: 'n', target, labels: { a: text } }),
      400,
      'invalid',
    );
    await problem(
      api.call('post', '/connections', { name: 'n', target, labels: { [text]: 'a' } }),
      400,
      'invalid',
    );
    await problem(api.call('post', '/tokens', { label: text, role: 'auditor' }), 400, 'invalid');
    await problem(api.call('post', '/keys/k_00000000000000000000/revoke', { reason: text }), 400, 'invalid');
  }
  for (const path of [
    '/connections/%00',
    '/connections/%ff',
    '/connections/%E0%A4%A',
    '/keys/%00',
    '/connections/a%2Fb',
  ]) {
    const response = await api.call('get', path);
    assert.equal(response.status, 400, path);
  }
  await problem(api.call('get', '/connections?cursor=%00'), 400, 'invalid');
  await problem(api.call('get', '/connections?colour=red'), 400, 'invalid');
  await problem(
    api.call('post', '/connections', { name: 'n', target: { host: 'h', port: 65_536 } }),
    400,
    'invalid',
  );
  await problem(api.call('post', '/connections', { name: 'namespace', target }), 400, 'invalid');
  await problem(api.call('post', '/connections', { name: 'n', target, extra: 1 }), 400, 'invalid');
  await problem(
    api.call('patch', '/connections/orders', {}, { headers: { 'If-Match': 'x' } }),
    400,
    'invalid',
  );
  await problem(api.call('get', '/nothing'), 404, 'no_such_operation');
});

test('bodies: not JSON, too large, not an object', async (t) => {
  const { api } = await apiFixture(t, postgres);
  const send = (body: string) =>
    request(api.url)
      .post('/api/v1/connections')
      .set('Authorization', `Bearer ${api.ownerToken}`)
      .set('Content-Type', 'application/json')
      .send(body);
  const status = async (body: string): Promise<[number, string]> => {
    const response = await send(body);
    return [response.status, (response.body as ProblemBody).code];
  };
  assert.deepEqual(await status('{'), [400, 'malformed_json']);
  assert.deepEqual(await status('[]'), [400, 'invalid']);
  assert.deepEqual(await status('null'), [400, 'malformed_json']);
  assert.deepEqual(await status(JSON.stringify({ name: 'x'.repeat(70_000) })), [413, 'body_too_large']);
  assert.deepEqual(await status('{"__proto__":{"name":"x"}}'), [400, 'invalid']);
});

test('what is asked live comes from the live state; closing a stream is recorded before it happens', async (t) => {
  const stream = {
    stream_id: '0190a0b0-0000-7000-8000-000000000001',
    connection: 'orders',
    principal: 'defaultSender',
    key_id: 'k_00000000000000000001',
    agent: 'a',
    gateway: 'g',
    target: 'db.internal:5432',
    opened_at: '2026-01-01T00:00:00.000Z',
    bytes_up: 1,
    bytes_down: 2,
    policy_rule: 'r',
  };
  const failure = {
    at: '2026-01-01T00:00:00.000Z',
    connection: 'orders',
    stage: 'stream',
    code: 'policy_denied',
    detail: 'no rule allows it',
    stream_id: null,
    decision_id: null,
    principal: null,
    gateway: null,
    agent: null,
    reasons: ['not_listed'],
  } as const;
  const closed: string[] = [];
  const live = liveStateOf({
    streamList: [stream],
    lastFailures: (name) => (name === 'orders' ? [failure] : []),
    closeStream: async (id, reason) => {
      closed.push(`${id} ${reason}`);
      return id === stream.stream_id;
    },
  });
  const { api, ownerUrl } = await apiFixture(t, postgres, { live });
  assert.deepEqual((await api.call('get', '/streams')).body, { items: [stream], next: null });
  assert.deepEqual((await api.call('get', '/streams?connection=other')).body, {
    items: [],
    next: null,
  });
  assert.deepEqual((await api.call('get', '/connections/orders/failures')).body, { items: [failure] });
  await problem(api.call('get', '/connections/unknown/failures'), 404, 'not_found');
  assert.equal((await api.call('post', `/streams/${stream.stream_id}/close`, { reason: 'why' })).status, 200);
  assert.deepEqual(closed, [`${stream.stream_id} admin_closed`]);
  await problem(
    api.call('post', `/streams/${stream.stream_id.replace(/1$/, '2')}/close`, {}),
    404,
    'not_found',
  );
  const events = await sql(
    ownerUrl,
    `select event from control.outbox where event #>> '{data,action}' = 'stream.close'`,
  );
  assert.equal(events.length, 2);
  const status = (await api.call('get', '/status')).body as { admitting: boolean; node: string };
  assert.deepEqual([status.admitting, status.node], [true, 'node-1']);
  const nodes = (await api.call('get', '/nodes')).body as { items: { name: string; state: string }[] };
  assert.deepEqual(
    nodes.items.map((node) => [node.name, node.state]),
    [['node-1', 'live']],
  );
});

test('the OpenAPI document is 3.1 and names every operation with its schemas', async (t) => {
  const { api } = await apiFixture(t, postgres);
  const document = (await api.call('get', '/openapi.json')).body as {
    openapi: string;
    paths: Record<
      string,
      Record<string, { operationId: string; parameters: { name: string; in: string }[] }>
    >;
  };
  assert.equal(document.openapi, '3.1.0');
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method} ${path}`),
  );
  for (const wanted of [
    'get /connections',
    'post /connections',
    'get /connections/{name}',
    'patch /connections/{name}',
    'delete /connections/{name}',
    'get /connections/{name}/failures',
    'post /keys/{key_id}/revoke',
    'post /auth-rules/{scope}/{name}/rotate',
    'get /streams',
    'get /status',
  ])
    assert.ok(operations.includes(wanted), wanted);
  const ids = Object.values(document.paths).flatMap((methods) =>
    Object.values(methods).map((one) => one.operationId),
  );
  assert.equal(new Set(ids).size, ids.length, 'an operationId is used twice');
  for (const [path, methods] of Object.entries(document.paths))
    for (const operation of Object.values(methods)) {
      const named = operation.parameters.filter((one) => one.in === 'path').map((one) => `{${one.name}}`);
      assert.deepEqual(path.match(/\{\w+\}/g) ?? [], named, path);
    }
});

test('with Postgres away every call is 503 with Retry-After, never 404 or 500', async (t) => {
  const own = await startPostgres();
  t.after(() => own.stop());
  const { api } = await apiFixture(t, own);
  await own.pause();
  for (const path of ['/connections', '/connections/nowhere', '/keys/k_00000000000000000000']) {
    const response = await api.call('get', path);
    assert.deepEqual([response.status, (response.body as ProblemBody).code], [503, 'unavailable']);
    assert.equal(response.headers['retry-after'], '2');
  }
});
