import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { pino } from 'pino';
import { newKeyringText, parseKeyring } from '../../src/control/index.ts';
import { createSasToken, keyIdOf } from '../../src/identity/index.ts';
import { isAppError, systemClock } from '../../src/runtime/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { apiFixture, keyOf, type KeyWithText } from './api-fixture.ts';
import { NAMESPACE, openNode, sql } from './control-fixture.ts';
import { eventually, revoked } from './feed-events.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

interface RotateBody {
  readonly key: KeyWithText;
  readonly replaced: { key_id: string; retire_at: string; enforcement: object | null } | null;
}

const ROTATE = '/auth-rules/orders/defaultSender/rotate';

/** Every row of every table of the schema, as text: what a dump of the database would hold. */
const dump = async (ownerUrl: string): Promise<string> => {
  const tables = await sql(ownerUrl, `select tablename from pg_tables where schemaname = 'control'`);
  const parts: string[] = [];
  for (const { tablename } of tables) {
    const rows = await sql(ownerUrl, `select t::text as row from control.${String(tablename)} t`);
    parts.push(...rows.map((row) => String(row['row'])));
  }
  return parts.join('\n');
};

const formsOf = (secret: string): string[] => [
  secret,
  Buffer.from(secret, 'utf8').toString('hex'),
  Buffer.from(secret, 'base64').toString('hex'),
  Buffer.from(secret, 'utf8').toString('base64'),
];

test('secrets are in no row, no log line and no answer but those of create, rotate and disclose', async (t) => {
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(chunk.toString('utf8'));
      done();
    },
  });
  const logger = pino({ level: 'trace' }, sink);
  const { control, api, ownerUrl } = await apiFixture(t, postgres, { control: { logger } });
  const keys = [...(await api.create('orders'))];
  const rotated = (await api.call('post', ROTATE, { slot: 'primary' })).body as RotateBody;
  keys.push(rotated.key);
  const disclosed = await api.call('post', `/keys/${rotated.key.key_id}/disclose`, { reason: 'new host' });
  assert.equal((disclosed.body as KeyWithText).key, rotated.key.key);
  const token = (await api.call('post', '/tokens', { label: 'ci', role: 'auditor' })).body as {
    token: string;
  };
  const secrets = [
    ...keys.map((key) => key.key),
    api.ownerToken.split('.')[1] ?? '',
    token.token.split('.')[1] ?? '',
  ];
  const planted = keys[0]?.key ?? '';
  const sas = createSasToken({
    resource: `http://${NAMESPACE}/orders`,
    keyName: 'x',
    key: planted,
    expiresAtS: 1,
  });
  await control.admission.verify(sas, { connection: 'orders', claim: 'Send' });
  const answers: string[] = [];
  for (const path of [
    '/connections',
    '/connections/orders',
    '/auth-rules',
    '/keys',
    `/keys/${keys[0]?.key_id ?? ''}`,
    `/keys/${encodeURIComponent(planted)}`,
    `/connections/${encodeURIComponent(keys[0]?.connection_string ?? '')}`,
    `/connections/${encodeURIComponent(planted)}`,
    `/connections/${encodeURIComponent(token.token)}`,
    '/key-usage',
    '/tokens',
    '/revocations',
    '/nodes',
    '/status',
  ])
    answers.push(JSON.stringify((await api.call('get', path)).body));
  answers.push(
    JSON.stringify(
      (await api.call('post', `/keys/${planted.replaceAll('/', '_')}/revoke`, { key: planted })).body,
    ),
  );
  const rows = await dump(ownerUrl);
  assert.ok(rows.includes('defaultSender'), 'the dump is empty');
  const places = { rows, log: lines.join(''), answers: answers.join('\n') };
  for (const [place, text] of Object.entries(places))
    for (const secret of secrets)
      for (const form of formsOf(secret)) assert.ok(!text.includes(form), `a secret is in ${place}`);
});

test('a rotation with --retire-after keeps the old key until then; without it the key ends at once', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  control.revocations.onRevoked(() => ({ links: 0, streams: 0 }));
  const old = keyOf(await api.create('orders'), 'defaultSender');
  const gentle = (await api.call('post', ROTATE, { slot: 'primary', retire_after_seconds: 3600 }))
    .body as RotateBody;
  assert.equal(gentle.replaced?.key_id, old.key_id);
  assert.equal(gentle.replaced.enforcement, null);
  assert.equal(gentle.key.key_id, keyIdOf(gentle.key.key));
  const stateOf = async (id: string): Promise<string> =>
    ((await api.call('get', `/keys/${id}`)).body as { state: string }).state;
  assert.deepEqual([await stateOf(old.key_id), await stateOf(gentle.key.key_id)], ['retiring', 'active']);
  const heard = revoked(control.revocations, gentle.key.key_id);
  const hard = (await api.call('post', ROTATE, { slot: 'primary' })).body as RotateBody;
  assert.equal((await heard).kind, 'key_rotated');
  assert.deepEqual(
    { ...hard.replaced?.enforcement, ms: 0 },
    { key_id: gentle.key.key_id, nodes: 1, links: 0, streams: 0, ms: 0, pending: [] },
  );
  assert.equal(await stateOf(old.key_id), 'retiring', 'its own time stands');
  assert.equal(control.revocations.isRevoked(old.key_id), undefined);
  const now = revoked(control.revocations, old.key_id);
  await api.call('post', `/keys/${old.key_id}/revoke`, {});
  assert.equal((await now).kind, 'key_revoked');
  const again = await api.call('post', `/keys/${gentle.key.key_id}/disclose`, {});
  assert.equal(again.status, 409);
});

test('concurrent rotations of a slot: every answer was active once, one is at the end, each has its event', async (t) => {
  const { control, api, ownerUrl } = await apiFixture(t, postgres);
  control.revocations.onRevoked(() => ({ links: 0, streams: 0 }));
  await api.create('orders');
  const answers = await Promise.all(
    Array.from({ length: 6 }, () =>
      api.call('post', ROTATE, { slot: 'secondary', retire_after_seconds: 60 }),
    ),
  );
  assert.deepEqual(
    answers.map((one) => one.status),
    Array(6).fill(200),
  );
  const ids = new Set(answers.map((one) => (one.body as RotateBody).key.key_id));
  const replaced = new Set(answers.map((one) => (one.body as RotateBody).replaced?.key_id));
  assert.deepEqual([ids.size, replaced.size], [6, 6]);
  const active = await sql(
    ownerUrl,
    `select key_id from control.key k join control.auth_rule r on r.id = k.auth_rule_id
    where r.name = 'defaultSender' and k.slot = 'secondary' and k.state = 'active'`,
  );
  assert.equal(active.length, 1);
  assert.ok(ids.has(String(active[0]?.['key_id'])));
  const events = await sql(
    ownerUrl,
    `select count(*)::int as n from control.outbox where event ->> 'type' = 'key.rotated'`,
  );
  assert.equal(events[0]?.['n'], 6);
});

test('concurrent creations of a name: one wins, the others are told; nothing half is left', async (t) => {
  const { api, ownerUrl } = await apiFixture(t, postgres);
  const target = { host: 'h', port: 1 };
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => api.call('post', '/connections', { name: 'one', target })),
  );
  assert.deepEqual(answers.map((one) => one.status).sort(), [201, 409, 409, 409, 409]);
  const counts = await sql(
    ownerUrl,
    `select (select count(*) from control.connection)::int as connections, (select count(*) from control.key)::int as keys,
      (select count(*) from control.outbox where event ->> 'type' = 'connection.created')::int as events`,
  );
  assert.deepEqual(counts[0], { connections: 1, keys: 2 + 4, events: 1 });
});

test('a change whose event cannot be written does not happen', async (t) => {
  const { api, ownerUrl } = await apiFixture(t, postgres);
  const keys = await api.create('orders');
  await sql(
    ownerUrl,
    `alter table control.outbox add constraint planted check (event ->> 'type' not like 'key.%') not valid`,
  );
  const id = keyOf(keys, 'defaultSender').key_id;
  assert.equal((await api.call('post', `/keys/${id}/revoke`, {})).status, 500);
  assert.equal((await api.call('post', ROTATE, { slot: 'primary' })).status, 500);
  const disclosed = await api.call('post', `/keys/${id}/disclose`, {});
  assert.equal(disclosed.status, 500);
  assert.ok(!JSON.stringify(disclosed.body).includes(keyOf(keys, 'defaultSender').key));
  const left = await sql(
    ownerUrl,
    `select (select count(*) from control.revocation)::int as revocations,
    (select count(*) from control.key where state <> 'active')::int as ended`,
  );
  assert.deepEqual(left[0], { revocations: 0, ended: 0 });
});

test('removing an auth-rule revokes its keys as auth_rule_removed and leaves the others', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  await api.create('orders');
  const made = await api.call('post', '/auth-rules', { scope: 'orders', name: 'app-1', claims: ['Send'] });
  assert.equal(made.status, 201);
  const keys = (made.body as { keys: KeyWithText[] }).keys;
  const heard = keys.map((key) => revoked(control.revocations, key.key_id));
  const gone = await api.call('delete', '/auth-rules/orders/app-1');
  const { enforcement, ...removed } = gone.body as { enforcement: { pending: { name: string }[] } };
  assert.deepEqual(removed, { scope: 'orders', name: 'app-1', revoked_keys: 2 });
  assert.deepEqual(
    enforcement.pending.map(({ name }) => name),
    ['node-1'],
    'this node enforces nothing, so it is pending',
  );
  for (const one of heard) assert.equal((await one).kind, 'auth_rule_removed');
  assert.equal((await api.call('delete', '/auth-rules/orders/app-1')).status, 404);
  const left = (await api.call('get', '/auth-rules?scope=orders')).body as { items: { name: string }[] };
  assert.deepEqual(
    left.items.map((rule) => rule.name),
    ['defaultListener', 'defaultSender'],
  );
});

test('a dry run tells what would be cut and changes nothing', async (t) => {
  const { api, ownerUrl } = await apiFixture(t, postgres);
  const key = keyOf(await api.create('orders'), 'defaultSender');
  const preview = (await api.call('post', `/keys/${key.key_id}/revoke`, { dry_run: true })).body as Record<
    string,
    unknown
  >;
  assert.deepEqual(
    [preview['dry_run'], preview['nodes'], preview['streams'], preview['pending']],
    [true, 1, 0, []],
  );
  assert.deepEqual(await sql(ownerUrl, 'select * from control.revocation'), []);
});

test('events hold actor, states before and after with their digests, and never a key', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  const key = keyOf(await api.create('orders'), 'defaultSender');
  await api.call('patch', '/connections/orders', { target: { host: 'db2.internal', port: 1 } });
  await api.call('post', `/keys/${key.key_id}/revoke`, { reason: 'leaked' });
  const events: { type: string; subject: Record<string, unknown>; data: Record<string, unknown> }[] = [];
  const revokedEvent = new Promise<void>((resolve) => {
    control.drainOutbox(async (event) => {
      events.push(event);
      if (event.type === 'key.revoked') resolve();
    });
  });
  await revokedEvent;
  const changed = events.find((event) => event.type === 'connection.changed');
  const states = changed?.data as { before: { sha256: string }; after: { sha256: string; target: object } };
  assert.match(states.before.sha256, /^[0-9a-f]{64}$/);
  assert.notEqual(states.before.sha256, states.after.sha256);
  assert.deepEqual(states.after.target, { host: 'db2.internal', port: 1 });
  const ended = events.find((event) => event.type === 'key.revoked');
  assert.deepEqual(
    [ended?.subject['key_id'], ended?.subject['key_slot'], ended?.data['reason']],
    [key.key_id, 'primary', 'leaked'],
  );
  assert.match(String(ended?.subject['actor']), /^t_[0-9a-f]{16}$/);
  assert.ok(!JSON.stringify(events).includes(key.key));
});

test('the outbox is drained in order, each event once although the sink fails and two nodes drain', async (t) => {
  const { control, api, relayUrl, ownerUrl, keyring } = await apiFixture(t, postgres);
  const second = await openNode(t, relayUrl, { keyring, node: 'node-2' });
  const seen: string[] = [];
  let failures = 0;
  const sink = async (event: { type: string; at_ms?: number | undefined }): Promise<void> => {
    if (failures < 3 && event.type === 'key.created') {
      failures += 1;
      throw new Error('planned failure');
    }
    seen.push(event.type);
  };
  control.drainOutbox(sink);
  second.drainOutbox(sink);
  for (const name of ['a', 'b', 'c']) await api.create(name);
  await control.close();
  await second.close();
  const stored = await sql(ownerUrl, 'select event, drained_at from control.outbox order by id');
  assert.ok(
    stored.every((row) => row['drained_at'] !== null),
    'something was left',
  );
  assert.deepEqual(
    seen,
    stored.map((row) => (row['event'] as { type: string }).type),
  );
  assert.equal(failures, 3);
});

test('a keyring opens what it sealed, for the same key id only, and is never quoted', () => {
  const text = newKeyringText();
  const keyring = parseKeyring(text);
  const sealed = keyring.seal('secret text', 'k_1');
  assert.equal(keyring.open(sealed, 'k_1'), 'secret text');
  assert.throws(
    () => keyring.open(sealed, 'k_2'),
    (error) => isAppError(error, 'ERR_CONTROL_KEYRING'),
  );
  const flipped = Buffer.from(sealed.sealed);
  flipped[20] = (flipped[20] ?? 0) ^ 1;
  assert.throws(
    () => keyring.open({ ...sealed, sealed: flipped }, 'k_1'),
    (error) => isAppError(error, 'ERR_CONTROL_KEYRING'),
  );
  assert.throws(
    () => parseKeyring(newKeyringText()).open(sealed, 'k_1'),
    (error) => isAppError(error, 'ERR_CONTROL_KEYRING'),
  );
  const master = (JSON.parse(text) as { keys: { key: string }[] }).keys[0]?.key ?? '';
  for (const bad of [text.slice(0, -5), text.replace('"version": 1', '"version": 2'), `${text}x`])
    assert.throws(
      () => parseKeyring(bad),
      (error) => isAppError(error, 'ERR_CONTROL_KEYRING') && !error.message.includes(master.slice(0, 10)),
    );
});

test('a relay role cannot change or delete a revocation', async (t) => {
  const { api, relayUrl } = await apiFixture(t, postgres);
  const key = keyOf(await api.create('orders'), 'defaultSender');
  await api.call('post', `/keys/${key.key_id}/revoke`, {});
  for (const text of [
    'delete from control.revocation',
    `update control.revocation set key_id = 'x'`,
    'truncate control.revocation',
  ])
    await assert.rejects(
      sql(relayUrl, text),
      (error) => error instanceof pg.DatabaseError && error.code === '42501',
    );
});

test('the relay answers from its cache: a verification without a query', async (t) => {
  const { control, api, ownerUrl } = await apiFixture(t, postgres);
  const key = keyOf(await api.create('orders'), 'defaultSender');
  const token = createSasToken({
    resource: `http://${NAMESPACE}/orders`,
    keyName: 'defaultSender',
    key: key.key,
    expiresAtS: systemClock.nowMs() / 1000 + 60,
  });
  const request = { connection: 'orders', claim: 'Send' } as const;
  assert.ok((await control.admission.verify(token, request)).ok);
  await sql(ownerUrl, 'alter table control.key rename to key_away');
  assert.ok((await control.admission.verify(token, request)).ok);
});

test('a rotation that waited for a revocation of the same key leaves it revoked', async (t) => {
  const { control, api, ownerUrl } = await apiFixture(t, postgres);
  control.revocations.onRevoked(() => ({ links: 0, streams: 0 }));
  const key = keyOf(await api.create('orders'), 'defaultSender');
  const holder = new pg.Client({ connectionString: ownerUrl });
  await holder.connect();
  t.after(() => holder.end());
  await holder.query('begin');
  await holder.query('select from control.key where key_id = $1 for update', [key.key_id]);
  const waiting = (count: number): Promise<void> =>
    eventually(`${count} wait for the row`, async () => {
      const rows = await sql(
        ownerUrl,
        `select count(*)::int as n from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
      );
      return Number(rows[0]?.['n']) >= count;
    });
  const revoking = api.call('post', `/keys/${key.key_id}/revoke`, {}).then((answer) => answer);
  await waiting(1);
  const rotating = api
    .call('post', ROTATE, { slot: 'primary', retire_after_seconds: 3_600 })
    .then((answer) => answer);
  await waiting(2);
  await holder.query('commit');
  const [ended, rotated] = await Promise.all([revoking, rotating]);
  assert.deepEqual([ended.status, rotated.status], [200, 200]);
  assert.equal((rotated.body as { replaced: unknown }).replaced, null);
  const rows = await sql(ownerUrl, 'select state from control.key where key_id = $1', [key.key_id]);
  assert.deepEqual(rows, [{ state: 'revoked' }]);
  const disclosed = await api.call('post', `/keys/${key.key_id}/disclose`, {});
  assert.equal(disclosed.status, 409);
});
