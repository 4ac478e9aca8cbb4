import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { openControl, type RevocationFeed } from '../../src/control/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { apiFixture, keyOf, openApi } from './api-fixture.ts';
import { controlFixture, NAMESPACE, openNode, sql } from './control-fixture.ts';
import { connectionChanged, eventually, revoked } from './feed-events.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

/** A revocation as another node would write it, but without any notification. */
const writeSilently = async (ownerUrl: string, keyId: string, effectiveIn = '0 s'): Promise<void> => {
  await sql(
    ownerUrl,
    `insert into control.revocation (revocation_id, namespace, key_id, kind, connection, auth_rule, slot, actor, effective_at)
     values (gen_random_uuid(), $1, $2, 'key_revoked', 'orders', 'defaultSender', 'primary', 't', now() + $3::interval)`,
    [NAMESPACE, keyId, effectiveIn],
  );
};

const killListeners = (ownerUrl: string): Promise<unknown> =>
  sql(
    ownerUrl,
    `select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'sallyport-listen' and datname = current_database()`,
  );

/** Lets time pass no faster than the feed's heartbeats (every 3 s) are answered. */
const passTime = async (clock: ManualClock, feed: RevocationFeed, ms: number): Promise<void> => {
  for (let passedMs = 0; passedMs < ms; passedMs += 1_000) {
    clock.advance(1_000);
    await eventually('heartbeat answered', () => clock.monotonicMs() - feed.lastHeardMonotonicMs() < 3_000);
  }
};

const K1 = 'k_00000000000000000001';
const K2 = 'k_00000000000000000002';

test('a revocation reaches every node; each tells once, in the tick that it knows', async (t) => {
  const { control, api, relayUrl, keyring } = await apiFixture(t, postgres);
  const second = await openNode(t, relayUrl, { keyring, node: 'node-2' });
  const key = keyOf(await api.create('orders'), 'defaultSender');
  const calls: string[] = [];
  for (const [name, node] of [
    ['1', control],
    ['2', second],
  ] as const)
    node.revocations.onRevoked((revocation) => {
      assert.equal(
        node.revocations.isRevoked(revocation.key_id ?? '')?.revocation_id,
        revocation.revocation_id,
      );
      calls.push(`${name} ${revocation.key_id}`);
      return { links: 1, streams: 3 };
    });
  const answer = await api.call('post', `/keys/${key.key_id}/revoke`, { reason: 'test' });
  assert.deepEqual(
    { ...(answer.body as object), ms: 0 },
    { key_id: key.key_id, nodes: 2, links: 2, streams: 6, ms: 0, pending: [] },
  );
  assert.deepEqual(calls.sort(), [`1 ${key.key_id}`, `2 ${key.key_id}`]);
  const again = await api.call('post', `/keys/${key.key_id}/revoke`, {});
  assert.deepEqual([again.status, (again.body as { nodes: number }).nodes], [200, 2]);
  assert.equal(calls.length, 2);
});

test('a node that listens again has heard nothing until it has read what was revoked meanwhile', async (t) => {
  const clock = new ManualClock(systemClock.nowMs());
  const { control, ownerUrl } = await controlFixture(t, postgres, { clock });
  const before = control.revocations.lastHeardMonotonicMs();
  const holder = new pg.Client({ connectionString: ownerUrl });
  await holder.connect();
  t.after(() => holder.end());
  await writeSilently(ownerUrl, K1);
  await holder.query('begin');
  await holder.query('lock table control.revocation in access exclusive mode');
  await killListeners(ownerUrl);
  await eventually('it listens, and its full read waits', async () => {
    clock.advance(10);
    const rows = await sql(
      ownerUrl,
      `select from pg_stat_activity where application_name = 'sallyport-listen'
        and datname = current_database() and wait_event_type = 'Lock'`,
    );
    return rows.length === 1;
  });
  assert.equal(control.revocations.lastHeardMonotonicMs(), before, 'the fence would open on a revoked key');
  const known = revoked(control.revocations, K1);
  await holder.query('rollback');
  await known;
  await eventually('it has heard', () => control.revocations.lastHeardMonotonicMs() > before);
});

test('a lost notification: the periodic full read finds the revocation', async (t) => {
  const clock = new ManualClock(systemClock.nowMs());
  const { control, ownerUrl } = await controlFixture(t, postgres, { clock });
  const heard = revoked(control.revocations, K1);
  await writeSilently(ownerUrl, K1);
  assert.equal(control.revocations.isRevoked(K1), undefined);
  await passTime(clock, control.revocations, 30_000);
  await heard;
  assert.ok(control.revocations.isRevoked(K1));
});

test('after pg_terminate_backend the feed reconnects and reads what it missed', async (t) => {
  const { control, ownerUrl } = await controlFixture(t, postgres);
  const calls: string[] = [];
  control.revocations.onRevoked(({ key_id }) => {
    calls.push(key_id ?? '');
    return undefined;
  });
  const heard = revoked(control.revocations, K1);
  await writeSilently(ownerUrl, K1);
  await killListeners(ownerUrl);
  await heard;
  const later = revoked(control.revocations, K2);
  await writeSilently(ownerUrl, K2);
  await killListeners(ownerUrl);
  await later;
  assert.ok(control.revocations.isRevoked(K1) && control.revocations.isRevoked(K2));
  assert.deepEqual(calls, [K1, K2], 'a second full read told again');
});

test('a revocation committed between LISTEN and the first read is in force after the first read', async (t) => {
  const { relayUrl, ownerUrl, keyring } = await controlFixture(t, postgres);
  await writeSilently(ownerUrl, K1);
  const racing: Promise<void>[] = [];
  for (let index = 0; index < 10; index += 1)
    racing.push(writeSilently(ownerUrl, `k_${String(index).padStart(20, '9')}`));
  const late = await openNode(t, relayUrl, { keyring, node: 'late' });
  assert.ok(late.revocations.isRevoked(K1));
  await Promise.all(racing);
  await killListeners(ownerUrl);
  await eventually('every racing revocation in force', () =>
    racing.every(
      (_, index) => late.revocations.isRevoked(`k_${String(index).padStart(20, '9')}`) !== undefined,
    ),
  );
});

test('a revocation notified while the first read runs is not lost', async (t) => {
  const { api, relayUrl, keyring } = await apiFixture(t, postgres);
  const keys = await api.create('orders');
  const control = await openControl({
    databaseUrl: relayUrl,
    keyring,
    namespace: NAMESPACE,
    node: 'starting',
    clock: systemClock,
    logger: silentLogger,
  });
  t.after(() => control.close());
  control.start();
  await Promise.all(keys.map((key) => api.call('post', `/keys/${key.key_id}/revoke`, {})));
  await control.revocations.firstSync;
  await eventually('all four in force', () =>
    keys.every((key) => control.revocations.isRevoked(key.key_id) !== undefined),
  );
});

test('a revocation for later is in force at its time, by the monotonic clock', async (t) => {
  const clock = new ManualClock(systemClock.nowMs());
  const { control, ownerUrl } = await controlFixture(t, postgres, { clock });
  const seen = connectionChanged(control.revocations, 'marker', 'set');
  await writeSilently(ownerUrl, K1, '10 minutes');
  await sql(
    ownerUrl,
    `insert into control.connection (id, namespace, name, target_host, target_port)
     values (gen_random_uuid(), $1, 'marker', 'h', 1)`,
    [NAMESPACE],
  );
  await passTime(clock, control.revocations, 30_000);
  await seen;
  assert.equal(control.revocations.isRevoked(K1), undefined);
  const heard = revoked(control.revocations, K1);
  clock.stepWall(7_200_000);
  await passTime(clock, control.revocations, 550_000);
  assert.equal(control.revocations.isRevoked(K1), undefined, 'a step of the wall clock ended it');
  await passTime(clock, control.revocations, 60_000);
  await heard;
});

test('what was heard stays in force when the database loses it', async (t) => {
  const clock = new ManualClock(systemClock.nowMs());
  const { control, ownerUrl } = await controlFixture(t, postgres, { clock });
  const heard = revoked(control.revocations, K1);
  await writeSilently(ownerUrl, K1);
  await passTime(clock, control.revocations, 30_000);
  await heard;
  await assert.rejects(sql(ownerUrl, 'delete from control.revocation'), /are final/);
  await sql(ownerUrl, `alter table control.revocation disable trigger all; delete from control.revocation`);
  const seen = connectionChanged(control.revocations, 'marker', 'set');
  await sql(
    ownerUrl,
    `insert into control.connection (id, namespace, name, target_host, target_port)
     values (gen_random_uuid(), $1, 'marker', 'h', 1)`,
    [NAMESPACE],
  );
  await passTime(clock, control.revocations, 30_000);
  await seen;
  assert.ok(control.revocations.isRevoked(K1));
});

test('lastHeard is the sending time of answered queries on the LISTEN connection, and the fence follows', async (t) => {
  const clock = new ManualClock();
  const own = await startPostgres();
  t.after(() => own.stop());
  const { control } = await controlFixture(t, own, { clock });
  assert.equal(control.revocations.lastHeardMonotonicMs(), 0);
  clock.advance(3_000);
  await eventually('heartbeat answered', () => control.revocations.lastHeardMonotonicMs() === 3_000);
  await own.pause();
  clock.advance(14_000);
  assert.equal(control.unavailableBecause(), undefined);
  assert.equal(control.revocations.lastHeardMonotonicMs(), 3_000);
  clock.advance(1_000);
  assert.match(control.unavailableBecause() ?? '', /not heard for 15 s/);
});

test('a node that fails to enforce, and agents that do not answer, are pending; silent nodes too', async (t) => {
  const { control, api, ownerUrl } = await apiFixture(t, postgres);
  const keys = await api.create('orders');
  const [one, two] = [keyOf(keys, 'defaultSender'), keyOf(keys, 'defaultSender', 'secondary')];
  await sql(
    ownerUrl,
    `insert into control.node (name, instance, last_seen_at, cut_after_ms) values
    ('gone', '', now() - interval '1 hour', 300000), ('silent', '', now() - interval '1 minute', 300000),
    ('cutting', '', now() - interval '301 seconds', 300000)`,
  );
  await sql(ownerUrl, `update control.node set started_at = now() - interval '1 day'`);
  control.revocations.onRevoked((revocation) => {
    if (revocation.key_id === two.key_id) throw new Error('planned failure');
    control.revocations.acknowledge(revocation.revocation_id, {
      links: 2,
      streams: null,
      ms: 1,
      pendingAgents: [{ name: 'agent-1', since: '2026-01-01T00:00:00.000Z' }],
    });
    return undefined;
  });
  const first = (await api.call('post', `/keys/${one.key_id}/revoke`, {})).body as {
    nodes: number;
    links: number;
    streams: number | null;
    pending: { kind: string; name: string }[];
  };
  assert.deepEqual([first.nodes, first.links, first.streams], [1, 2, null]);
  const names = (pending: { kind: string; name: string }[]): string[] =>
    pending.map((p) => `${p.kind} ${p.name}`).sort();
  assert.deepEqual(names(first.pending), ['agent agent-1', 'node cutting', 'node silent']);
  const second = (await api.call('post', `/keys/${two.key_id}/revoke`, {})).body as typeof first;
  assert.deepEqual(names(second.pending), ['node cutting', 'node node-1', 'node silent']);
});

test('the last of several acknowledgements counts, however fast they follow each other', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  const [key] = await api.create('orders');
  const pendingAgents = [{ name: 'agent-1', since: '2026-01-01T00:00:00.000Z' }];
  control.revocations.onRevoked(({ revocation_id }) => {
    control.revocations.acknowledge(revocation_id, { links: 1, streams: null, ms: 1, pendingAgents });
    control.revocations.acknowledge(revocation_id, { links: 1, streams: null, ms: 1, pendingAgents });
    control.revocations.acknowledge(revocation_id, { links: 1, streams: 7, ms: 2 });
    return undefined;
  });
  const answer = await api.call('post', `/keys/${key?.key_id ?? ''}/revoke`, {});
  assert.deepEqual(
    { ...(answer.body as object), ms: 0 },
    { key_id: key?.key_id, nodes: 1, links: 1, streams: 7, ms: 0, pending: [] },
  );
});

test('connections made, changed and deleted are told on every node', async (t) => {
  const { control, relayUrl, keyring } = await controlFixture(t, postgres);
  const api = await openApi(t, control);
  const other = await openNode(t, relayUrl, { keyring, node: 'node-2' });
  const set = connectionChanged(other.revocations, 'orders', 'set');
  await api.create('orders');
  await set;
  const changed = connectionChanged(other.revocations, 'orders', 'set');
  await api.call('patch', '/connections/orders', { target: { host: 'db2.internal', port: 5432 } });
  await changed;
  assert.equal((await other.connections.get('orders'))?.target.host, 'db2.internal');
  const gone = connectionChanged(other.revocations, 'orders', 'gone');
  await api.call('delete', '/connections/orders');
  await gone;
  assert.equal(await other.connections.get('orders'), undefined);
});
