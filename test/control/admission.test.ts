import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Control } from '../../src/control/index.ts';
import { createSasToken } from '../../src/identity/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { apiFixture, keyOf, type KeyWithText } from './api-fixture.ts';
import { NAMESPACE, sql } from './control-fixture.ts';
import { revoked } from './feed-events.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

const MINUTE_S = 60;
const ask = { connection: 'orders', claim: 'Send' } as const;

const tokenOf = (
  key: Pick<KeyWithText, 'auth_rule' | 'key'>,
  over: { resource?: string; inS?: number } = {},
): string =>
  createSasToken({
    resource: over.resource ?? `http://${NAMESPACE}/orders`,
    keyName: key.auth_rule,
    key: key.key,
    expiresAtS: systemClock.nowMs() / 1000 + (over.inS ?? 10 * MINUTE_S),
  });

const refused = async (
  control: Control,
  token: string,
  expected: readonly [number, string],
  request: Parameters<Control['admission']['verify']>[1] = ask,
): Promise<void> => {
  const verdict = await control.admission.verify(token, request);
  assert.ok(!verdict.ok, 'it was admitted');
  assert.deepEqual([verdict.status, verdict.code], expected);
};

test('both keys of an auth-rule admit and are told apart', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  const keys = await api.create('orders');
  for (const slot of ['primary', 'secondary'] as const) {
    const key = keyOf(keys, 'defaultSender', slot);
    const verdict = await control.admission.verify(tokenOf(key), { ...ask, source: '192.0.2.7' });
    assert.ok(verdict.ok, JSON.stringify(verdict));
    assert.deepEqual(
      [verdict.key_id, verdict.slot, verdict.principal, verdict.scope, verdict.claims],
      [key.key_id, slot, 'defaultSender', 'connection', ['Send']],
    );
  }
});

test('a namespace key admits everywhere, as namespace/NAME, with Manage expanded; then 404 is told', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  await api.create('orders');
  const { body } = await api.call('get', '/keys?scope=namespace&slot=primary');
  const [root] = (body as { items: { key_id: string }[] }).items;
  const disclosed = await api.call('post', `/keys/${root?.key_id}/disclose`, {});
  const token = tokenOf(disclosed.body as KeyWithText, { resource: `sb://${NAMESPACE}:443/` });
  const verdict = await control.admission.verify(token, ask);
  assert.ok(verdict.ok, JSON.stringify(verdict));
  assert.equal(verdict.principal, 'namespace/RootManageSharedAccessKey');
  assert.deepEqual(verdict.claims, ['Listen', 'Send', 'Manage']);
  for (const connection of ['nowhere', '\u0000', '\ud800', 'x'.repeat(5_000)])
    await refused(control, token, [404, 'connection_unknown'], { ...ask, connection });
});

test('401 comes before 404 and before everything that a stranger could learn', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  const keys = await api.create('orders');
  const sender = keyOf(keys, 'defaultSender');
  const wrongKey = { ...sender, key: `${sender.key.startsWith('A') ? 'B' : 'A'}${sender.key.slice(1)}` };
  await refused(control, 'SharedAccessSignature x', [401, 'token_malformed']);
  await refused(control, tokenOf(wrongKey), [401, 'not_authorized']);
  await refused(control, tokenOf({ ...sender, auth_rule: 'nobody' }), [401, 'not_authorized']);
  await refused(control, tokenOf(wrongKey, { inS: -MINUTE_S }), [401, 'not_authorized']);
  await refused(control, tokenOf(sender, { resource: `http://${NAMESPACE}/other` }), [401, 'token_resource']);
  await refused(control, tokenOf(sender, { resource: 'http://elsewhere/orders' }), [401, 'token_resource']);
  const other = tokenOf(sender, { resource: `http://${NAMESPACE}/` });
  await refused(control, other, [401, 'not_authorized'], { ...ask, connection: 'nowhere' });
  await refused(control, tokenOf(sender), [403, 'claim_missing'], { ...ask, claim: 'Listen' });
});

test('an expired token renews an established login of its own key for 5 min and does nothing else', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  const keys = await api.create('orders');
  const sender = keyOf(keys, 'defaultSender');
  const other = keyOf(keys, 'defaultSender', 'secondary');
  const late = tokenOf(sender, { inS: -4 * MINUTE_S });
  await refused(control, late, [401, 'token_expired']);
  const renewed = await control.admission.verify(late, { ...ask, renewalOfKeyId: sender.key_id });
  assert.ok(renewed.ok);
  await refused(control, late, [401, 'not_authorized'], { ...ask, renewalOfKeyId: other.key_id });
  const tooLate = tokenOf(sender, { inS: -6 * MINUTE_S });
  await refused(control, tooLate, [401, 'token_expired'], { ...ask, renewalOfKeyId: sender.key_id });
});

test('a revoked key is refused by name, the other slot goes on, a new key works at once', async (t) => {
  const { control, api } = await apiFixture(t, postgres);
  const keys = await api.create('orders');
  const primary = keyOf(keys, 'defaultSender');
  const secondary = keyOf(keys, 'defaultSender', 'secondary');
  const heard = revoked(control.revocations, primary.key_id);
  await api.call('post', `/keys/${primary.key_id}/revoke`, { reason: 'leaked' });
  await heard;
  await refused(control, tokenOf(primary), [401, 'key_revoked']);
  assert.ok((await control.admission.verify(tokenOf(secondary), ask)).ok);
  const rotated = await api.call('post', '/auth-rules/orders/defaultSender/rotate', { slot: 'primary' });
  const fresh = (rotated.body as { key: KeyWithText }).key;
  assert.ok((await control.admission.verify(tokenOf(fresh), ask)).ok);
});

test('a key whose making was never notified is found by its first use, a second later at most', async (t) => {
  const clock = new ManualClock(systemClock.nowMs());
  const { control, api, ownerUrl } = await apiFixture(t, postgres, { control: { clock } });
  const keys = await api.create('orders');
  const [first, moved] = [keyOf(keys, 'defaultSender'), keyOf(keys, 'defaultSender', 'secondary')];
  const inTime = (key: KeyWithText): string => tokenOf(key, { inS: 60 * MINUTE_S });
  await sql(ownerUrl, 'create table control.aside as select * from control.key where key_id = $1', [
    moved.key_id,
  ]);
  await sql(ownerUrl, 'delete from control.key where key_id = $1', [moved.key_id]);
  assert.ok((await control.admission.verify(inTime(first), ask)).ok);
  await refused(control, inTime(moved), [401, 'not_authorized']);
  await sql(ownerUrl, 'insert into control.key select * from control.aside');
  clock.advance(1_000);
  assert.ok((await control.admission.verify(inTime(moved), ask)).ok);
});

test('without Postgres nothing is admitted: 503 and never 404; with it again, all is as before', async (t) => {
  const own = await startPostgres();
  t.after(() => own.stop());
  const { control, api } = await apiFixture(t, own, { control: { fenceAfterMs: 1 } });
  const keys = await api.create('orders');
  const token = tokenOf(keyOf(keys, 'defaultSender'));
  await own.pause();
  await refused(control, token, [503, 'unavailable']);
  await refused(control, token, [503, 'unavailable'], { ...ask, connection: 'nowhere' });
});

test('short silence of Postgres changes nothing for known connections, unknown ones are 503', async (t) => {
  const own = await startPostgres();
  t.after(() => own.stop());
  const { control, api } = await apiFixture(t, own, { control: { fenceAfterMs: 3_600_000 } });
  const keys = await api.create('orders');
  const token = tokenOf(keyOf(keys, 'defaultSender'));
  assert.ok((await control.admission.verify(token, ask)).ok);
  await own.pause();
  assert.ok((await control.admission.verify(token, ask)).ok);
  const anywhere = tokenOf(keyOf(keys, 'defaultSender'), { resource: `http://${NAMESPACE}` });
  await refused(control, anywhere, [503, 'unavailable'], { ...ask, connection: 'nowhere' });
});

test('the use of a key is kept with its source and outlives the key', async (t) => {
  const { control, api, ownerUrl } = await apiFixture(t, postgres);
  const sender = keyOf(await api.create('orders'), 'defaultSender');
  await control.admission.verify(tokenOf(sender), { ...ask, source: '192.0.2.7' });
  await control.admission.verify(tokenOf(sender), { ...ask, source: '192.0.2.8\u0000' });
  await control.admission.verify(tokenOf(sender), { ...ask, source: '192.0.2.7' });
  const usage = await api.call('get', `/key-usage?key_id=${sender.key_id}`);
  const [item] = (usage.body as { items: { use_count: number; sources: { source: string }[] }[] }).items;
  assert.equal(item?.use_count, 3);
  assert.deepEqual(item.sources.map((one) => one.source).sort(), ['192.0.2.7', '192.0.2.8\ufffd']);
  const listed = await api.call('get', '/keys?scope=orders');
  const row = (listed.body as { items: { key_id: string; last_used_at: string | null }[] }).items.find(
    (key) => key.key_id === sender.key_id,
  );
  assert.ok(row?.last_used_at);
  await api.call('delete', '/connections/orders');
  const left = await sql(
    ownerUrl,
    'select sum(use_count)::int as n from control.key_usage where key_id = $1',
    [sender.key_id],
  );
  assert.equal(left[0]?.['n'], 3);
});
