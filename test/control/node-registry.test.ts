import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Control } from '../../src/control/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { apiFixture } from './api-fixture.ts';
import { controlFixture, openNode, sql } from './control-fixture.ts';
import { eventually } from './feed-events.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

const becomes = (control: Control, missing: RegExp | undefined): Promise<void> =>
  eventually(`missing: ${String(missing)}`, () => {
    const reasons = control.missingParties().join('; ');
    return missing === undefined ? reasons === '' : missing.test(reasons);
  });

test('a new node misses whom another live node has, until they have come or that node has left', async (t) => {
  const { control, api, relayUrl, keyring } = await apiFixture(t, postgres);
  let atFirst = { agents: 0, gateways: 0 };
  let atSecond = { agents: 0, gateways: 0 };
  control.countParties(() => atFirst);
  assert.deepEqual(control.missingParties(), [], 'nobody is linked anywhere: nobody is missing');
  atFirst = { agents: 2, gateways: 1 };
  await eventually('the row says so', async () => {
    const { body } = await api.call('get', '/nodes');
    const [node] = (body as { items: { agents: number; gateways: number }[] }).items;
    return node?.agents === 2 && node.gateways === 1;
  });
  const second = await openNode(t, relayUrl, { keyring, node: 'node-2' });
  second.countParties(() => atSecond);
  assert.equal(second.missingParties().length, 2, 'it knows before it is in sync');
  assert.deepEqual(control.missingParties(), []);
  atSecond = { agents: 1, gateways: 0 };
  await becomes(second, /^no gateway is logged in here yet/);
  atSecond = { agents: 0, gateways: 1 };
  await becomes(second, /^no agent publishes here yet/);
  await control.close();
  await becomes(second, undefined);
});

/** Makes this process write its row whenever it is called: parties that change are told within 250 ms. */
const restless = (control: Control): (() => void) => {
  let agents = 0;
  control.countParties(() => ({ agents, gateways: 0 }));
  return () => {
    agents = (agents + 1) % 1_000;
  };
};

test('two processes under one name: both say so, and the one that stays has the name again', async (t) => {
  const { control: first, keyring, relayUrl, ownerUrl } = await controlFixture(t, postgres);
  const stirFirst = restless(first);
  assert.deepEqual(first.nodeConflicts(), []);
  const second = await openNode(t, relayUrl, { keyring });
  const stirSecond = restless(second);
  const conflicts = (control: Control, expected: readonly string[]): Promise<void> =>
    eventually(`conflicts: ${expected.join()}`, () => {
      stirFirst();
      stirSecond();
      return control.nodeConflicts().join() === expected.join();
    });
  const shared = ['another process runs under the name of this node, node-1'];
  await conflicts(first, shared);
  await conflicts(second, shared);

  await second.close();
  await conflicts(first, []);
  const [row] = await sql(ownerUrl, 'select left_at, rival from control.node');
  assert.deepEqual(row, { left_at: null, rival: null }, 'revocations wait for the one that stays');
  await first.close();
  const [left] = await sql(ownerUrl, 'select left_at is not null as has_left from control.node');
  assert.equal(left?.['has_left'], true);
});

test('the one that took the name has it for itself as soon as the earlier process leaves', async (t) => {
  const { control: first, keyring, relayUrl } = await controlFixture(t, postgres);
  const stirFirst = restless(first);
  const second = await openNode(t, relayUrl, { keyring });
  const stirSecond = restless(second);
  await eventually('it sees the other', () => {
    stirFirst();
    stirSecond();
    return second.nodeConflicts().length === 1;
  });
  await first.close();
  await eventually('it is alone', () => {
    stirSecond();
    return second.nodeConflicts().length === 0;
  });
});

test('a process that was killed is no conflict for the one that is started in its place', async (t) => {
  const { control, keyring, relayUrl, ownerUrl } = await controlFixture(t, postgres);
  await control.close();
  await sql(ownerUrl, 'update control.node set left_at = null, last_seen_at = now()');
  const second = await openNode(t, relayUrl, { keyring });
  const stir = restless(second);
  let beats = 0;
  await eventually('it has beaten twice', async () => {
    stir();
    const [row] = await sql(ownerUrl, 'select last_seen_at::text as at, agents from control.node');
    if (Number(row?.['agents']) > 0) beats += 1;
    return beats >= 2;
  });
  assert.deepEqual(second.nodeConflicts(), []);
});

test('two nodes of one public host and port say so, of one host and other ports not', async (t) => {
  const {
    control: first,
    keyring,
    relayUrl,
  } = await controlFixture(t, postgres, {
    publicAddress: { host: 'Relay.example.com', ports: [5671, 9352] },
  });
  const second = await openNode(t, relayUrl, {
    keyring,
    node: 'node-2',
    publicAddress: { host: 'relay.example.com', ports: [9352] },
  });
  const third = await openNode(t, relayUrl, {
    keyring,
    node: 'node-3',
    publicAddress: { host: 'relay.example.com', ports: [9353] },
  });
  assert.deepEqual(second.nodeConflicts(), [
    'node node-1 has the public address of this node, relay.example.com',
  ]);
  assert.deepEqual(third.nodeConflicts(), []);
  const stir = restless(first);
  await eventually('the first one sees it too', () => {
    stir();
    return (
      first.nodeConflicts().join() === 'node node-2 has the public address of this node, Relay.example.com'
    );
  });
  await second.close();
  await eventually('the address is its own again', () => {
    stir();
    return first.nodeConflicts().length === 0;
  });
});
