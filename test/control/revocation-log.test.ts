import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openControl, type Control } from '../../src/control/index.ts';
import { silentLogger, systemClock } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { apiFixture, keyOf } from './api-fixture.ts';
import { NAMESPACE, openNode, sql } from './control-fixture.ts';
import { eventually } from './feed-events.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

const FULL_READ_MS = 30_000;

/** As a restore from a backup of before the revocation: the row is gone and the key is alive again. */
const restoreBackup = async (ownerUrl: string, keyId: string): Promise<void> => {
  await sql(ownerUrl, 'alter table control.revocation disable trigger user');
  await sql(
    ownerUrl,
    'delete from control.revocation_ack where revocation_id in (select revocation_id from control.revocation where key_id = $1)',
    [keyId],
  );
  await sql(ownerUrl, 'delete from control.revocation where key_id = $1', [keyId]);
  await sql(ownerUrl, 'alter table control.revocation enable trigger user');
  await sql(ownerUrl, `update control.key set state = 'active' where key_id = $1`, [keyId]);
};

const rowsOf = (ownerUrl: string, keyId: string) =>
  sql(
    ownerUrl,
    `select r.revocation_id, k.state, (select count(*)::int from control.outbox o
        where o.event ->> 'type' = 'admin.action' and o.event #>> '{data,action}' = 'revocation.republished') as events
       from control.revocation r join control.key k using (key_id) where r.key_id = $1`,
    [keyId],
  );

const passFullRead = async (clock: ManualClock, control: Control): Promise<void> => {
  for (let passedMs = 0; passedMs < FULL_READ_MS; passedMs += 1_000) {
    clock.advance(1_000);
    await eventually(
      'heartbeat answered',
      () => clock.monotonicMs() - control.revocations.lastHeardMonotonicMs() < 3_000,
    );
  }
};

test('a revocation that a restored database has lost is written back by the nodes that run, with an event', async (t) => {
  const clock = new ManualClock(systemClock.nowMs());
  const stateDirectory = temporaryDirectory(t, 'node');
  const { control, api, ownerUrl } = await apiFixture(t, postgres, { control: { clock, stateDirectory } });
  const key = keyOf(await api.create('orders'), 'defaultSender');
  control.revocations.onRevoked(() => ({ links: 0, streams: 0 }));
  await api.call('post', `/keys/${key.key_id}/revoke`, { reason: 'leaked' });
  await eventually('the node knows', () => control.revocations.isRevoked(key.key_id) !== undefined);
  const [before] = await rowsOf(ownerUrl, key.key_id);
  await restoreBackup(ownerUrl, key.key_id);
  assert.deepEqual(await rowsOf(ownerUrl, key.key_id), []);
  await passFullRead(clock, control);
  await eventually('written back', async () => (await rowsOf(ownerUrl, key.key_id)).length === 1);
  const [after] = await rowsOf(ownerUrl, key.key_id);
  assert.deepEqual(after, { revocation_id: before?.['revocation_id'], state: 'revoked', events: 1 });
});

test('a node that starts over a restored database still knows, before it has read anything', async (t) => {
  const stateDirectory = temporaryDirectory(t, 'node');
  const first = await apiFixture(t, postgres);
  const key = keyOf(await first.api.create('orders'), 'defaultSender');
  const other = keyOf(await first.api.create('others'), 'defaultSender');
  const second = await openNode(t, first.relayUrl, {
    keyring: first.keyring,
    node: 'node-2',
    stateDirectory,
  });
  await first.api.call('post', `/keys/${key.key_id}/revoke`, { reason: 'leaked' });
  await eventually('node-2 knows', () => second.revocations.isRevoked(key.key_id) !== undefined);
  await second.close();
  await first.control.close();
  await restoreBackup(first.ownerUrl, key.key_id);
  const again = await openControl({
    databaseUrl: first.relayUrl,
    keyring: first.keyring,
    namespace: NAMESPACE,
    node: 'node-2',
    stateDirectory,
    clock: systemClock,
    logger: silentLogger,
  });
  t.after(() => again.close());
  assert.equal(again.revocations.isRevoked(key.key_id)?.reason, 'leaked');
  assert.equal(again.revocations.isRevoked(other.key_id), undefined);
  again.start();
  await again.revocations.firstSync;
  await eventually('written back', async () => (await rowsOf(first.ownerUrl, key.key_id)).length === 1);
});

test('a line cut by a power cut is dropped; any other damage stops the start', async (t) => {
  const stateDirectory = temporaryDirectory(t, 'node');
  const first = await apiFixture(t, postgres, { control: { stateDirectory } });
  const key = keyOf(await first.api.create('orders'), 'defaultSender');
  await first.api.call('post', `/keys/${key.key_id}/revoke`, {});
  await first.control.close();
  const file = join(stateDirectory, 'revocations.jsonl');
  const whole = readFileSync(file, 'utf8');
  const open = (): Promise<Control> =>
    openControl({
      databaseUrl: first.relayUrl,
      keyring: first.keyring,
      namespace: NAMESPACE,
      node: 'node-1',
      stateDirectory,
      clock: systemClock,
      logger: silentLogger,
    });
  appendFileSync(file, whole.slice(0, 40));
  const torn = await open();
  assert.ok(torn.revocations.isRevoked(key.key_id));
  await torn.close();
  assert.equal(readFileSync(file, 'utf8'), whole);
  writeFileSync(file, `${whole}{"key_id":7}\n${whole}`);
  await assert.rejects(open(), { code: 'ERR_CONTROL_STATE', message: /line 2 is not a revocation/ });
});
