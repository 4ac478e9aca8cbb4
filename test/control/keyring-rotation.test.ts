import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import {
  dropMasterKeys,
  type KeyringRotation,
  newKeyringText,
  prepareMasterKey,
  readKeyringFile,
  rewrapKeys,
} from '../../src/control/index.ts';
import { createSasToken } from '../../src/identity/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { apiFixture, keyOf, type KeyWithText } from './api-fixture.ts';
import { NAMESPACE, sql } from './control-fixture.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

const idsOf = (file: string): { current: string; ids: string[] } => {
  const data = JSON.parse(readFileSync(file, 'utf8')) as { current: string; keys: { id: string }[] };
  return { current: data.current, ids: data.keys.map(({ id }) => id) };
};

const fixture = async (t: TestContext) => {
  const keyringFile = join(temporaryDirectory(t, 'keyring'), 'keyring.json');
  writeFileSync(keyringFile, newKeyringText());
  const clock = new ManualClock(systemClock.nowMs());
  const keyring = await readKeyringFile(keyringFile, clock);
  const { control, api, ownerUrl, relayUrl } = await apiFixture(t, postgres, { control: { clock, keyring } });
  const rotation: KeyringRotation = {
    keyringFile,
    databaseUrl: relayUrl,
    namespace: NAMESPACE,
    clock,
    actor: 'keyring/node-1',
  };
  const admits = async (key: KeyWithText): Promise<boolean> => {
    const token = createSasToken({
      resource: `http://${NAMESPACE}/orders`,
      keyName: key.auth_rule,
      key: key.key,
      expiresAtS: clock.nowMs() / 1000 + 600,
    });
    return (await control.admission.verify(token, { connection: 'orders', claim: 'Send' })).ok;
  };
  const under = async (): Promise<string[]> =>
    (await sql(ownerUrl, 'select distinct keyring_key from control.key order by 1')).map((row) =>
      String(row['keyring_key']),
    );
  return { clock, api, ownerUrl, rotation, keyringFile, admits, under };
};

test('every key is sealed again, a node that runs goes on with it, and the change is on record', async (t) => {
  const { clock, api, ownerUrl, rotation, keyringFile, admits, under } = await fixture(t);
  const keys = await api.create('orders');
  const sender = keyOf(keys, 'defaultSender');
  const before = idsOf(keyringFile);
  assert.ok(await admits(sender));
  const result = await rewrapKeys(rotation);
  const now = idsOf(keyringFile);
  assert.equal(result.current, now.current);
  assert.notEqual(now.current, before.current);
  assert.deepEqual(now.ids, [before.current, now.current]);
  assert.equal(result.resumed, false);
  assert.ok(result.rewrapped >= 4, `${result.rewrapped} keys`);
  assert.deepEqual(await under(), [now.current]);
  clock.advance(1_000);
  assert.ok(await admits(sender));
  const disclosed = await api.call('post', `/keys/${sender.key_id}/disclose`, {});
  assert.equal((disclosed.body as KeyWithText).key, sender.key);
  const events = await sql(
    ownerUrl,
    `select event #> '{data,detail}' as detail from control.outbox where event #>> '{data,action}' = 'keyring.rotated'`,
  );
  assert.deepEqual(events, [{ detail: { from: before.current, to: now.current, keys: result.rewrapped } }]);
  assert.deepEqual(await dropMasterKeys(rotation), [before.current]);
  assert.deepEqual(idsOf(keyringFile).ids, [now.current]);
  const later = keyOf(await api.create('more'), 'defaultSender');
  assert.ok(later.key_id);
  assert.deepEqual(await under(), [now.current]);
});

test('a run that was broken off is continued; a master key that still seals something is not dropped', async (t) => {
  const { api, ownerUrl, rotation, keyringFile, under } = await fixture(t);
  await api.create('orders');
  const before = idsOf(keyringFile).current;
  await sql(ownerUrl, 'create table control.aside as select * from control.key');
  await rewrapKeys(rotation);
  // As if it had stopped in the middle: two keys are as they were.
  await sql(
    ownerUrl,
    `update control.key k set keyring_key = a.keyring_key, sealed = a.sealed from control.aside a
      where a.key_id = k.key_id and k.key_id in (select key_id from control.key order by key_id limit 2)`,
  );
  const { current } = idsOf(keyringFile);
  assert.deepEqual(await dropMasterKeys(rotation), []);
  const result = await rewrapKeys(rotation);
  assert.deepEqual(result, { current, rewrapped: 2, resumed: true });
  assert.deepEqual(await under(), [current]);
  assert.deepEqual(await dropMasterKeys(rotation), [before]);
});

test('a prepared master key seals nothing until it is its turn, and is not made twice', async (t) => {
  const { api, rotation, keyringFile, under } = await fixture(t);
  await api.create('orders');
  const before = idsOf(keyringFile).current;
  const prepared = await prepareMasterKey(keyringFile);
  assert.equal(await prepareMasterKey(keyringFile), prepared);
  assert.deepEqual(idsOf(keyringFile), { current: before, ids: [before, prepared] });
  assert.deepEqual(await under(), [before]);
  assert.deepEqual(await dropMasterKeys(rotation), []);
  assert.equal((await rewrapKeys(rotation)).current, prepared);
});

test('a master key that is missing fails plainly and changes nothing', async (t) => {
  const { api, rotation, keyringFile, under } = await fixture(t);
  await api.create('orders');
  const before = await under();
  writeFileSync(keyringFile, newKeyringText());
  await assert.rejects(rewrapKeys(rotation), { code: 'ERR_CONTROL_KEYRING', message: /no key "m_/ });
  assert.deepEqual(await under(), before);
});
