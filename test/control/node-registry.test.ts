import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Control } from '../../src/control/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { apiFixture } from './api-fixture.ts';
import { openNode } from './control-fixture.ts';
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
