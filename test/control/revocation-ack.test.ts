import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Database, type Queryable } from '../../src/control/database.ts';
import { acknowledgeRevocation, revocationProgress } from '../../src/control/revocation-ack.ts';
import { silentLogger } from '../../src/runtime/index.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { controlDatabase, NAMESPACE, sql } from './control-fixture.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

test('an acknowledgement that lands while progress is read is either counted or still pending', async (t) => {
  const { ownerUrl } = await controlDatabase(postgres);
  await sql(ownerUrl, `insert into control.node (name, instance) values ('node-1', gen_random_uuid())`);
  await sql(ownerUrl, 'insert into control.namespace (name) values ($1)', [NAMESPACE]);
  const [row] = await sql(
    ownerUrl,
    `insert into control.revocation (revocation_id, namespace, key_id, kind, connection, auth_rule, slot, actor)
     values (gen_random_uuid(), $1, 'k_00000000000000000001', 'key_revoked', 'orders', 'defaultSender', 'primary', 't')
     returning revocation_id`,
    [NAMESPACE],
  );
  const id = String(row?.['revocation_id']);
  const database = new Database(ownerUrl, silentLogger);
  t.after(() => database.close());
  let statements = 0;
  const slow: Queryable = {
    async query(text, values) {
      const rows = await database.query<never>(text, values);
      statements += 1;
      if (statements === 1)
        await acknowledgeRevocation(database, 'node-1', id, { links: 1, streams: 3, ms: 1 });
      return rows;
    },
  };
  const during = await revocationProgress(slow, id);
  assert.deepEqual([during.nodes, during.pending.map(({ name }) => name)], [0, ['node-1']]);
  const afterwards = await revocationProgress(database, id);
  assert.deepEqual(
    [afterwards.nodes, afterwards.links, afterwards.streams, afterwards.pending],
    [1, 1, 3, []],
  );
});
