import assert from 'node:assert/strict';
import { test } from 'node:test';
import pg from 'pg';
import { startPostgres } from './postgres.ts';

test('a test database answers, survives a pause, and its directory goes away with it', async (t) => {
  const postgres = await startPostgres();
  t.after(() => postgres.stop());
  const url = await postgres.createDatabase();
  const ask = async (sql: string): Promise<unknown[]> => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      return (await client.query(sql)).rows as unknown[];
    } finally {
      await client.end();
    }
  };
  await ask('create table kept (n int)');
  await ask('insert into kept values (1)');
  await postgres.pause();
  await assert.rejects(ask('select 1'));
  await postgres.resume();
  assert.deepEqual(await ask('select n from kept'), [{ n: 1 }]);
});
