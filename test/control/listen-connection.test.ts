import assert from 'node:assert/strict';
import { after, before, test, type TestContext } from 'node:test';
import { ListenConnection } from '../../src/control/listen-connection.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { sql } from './control-fixture.ts';
import { eventually } from './feed-events.ts';

let postgres: TestPostgres;
before(async () => {
  postgres = await startPostgres();
});
after(() => postgres.stop());

const open = async (t: TestContext, clock: ManualClock, heard: number[] = []): Promise<ListenConnection> => {
  const connection = new ListenConnection(postgres.url, clock, (sentMs) => heard.push(sentMs));
  t.after(() => connection.destroy('test over'));
  await connection.open();
  return connection;
};

/** Resolves when the server runs this statement. */
const running = (text: string): Promise<void> =>
  eventually(`${text} running`, async () => {
    const rows = await sql(
      postgres.url,
      `select 1 from pg_stat_activity where query = $1 and state = 'active'`,
      [text],
    );
    return rows.length > 0;
  });

test('what was heard counts from the sending of the query, not from its answer', async (t) => {
  const clock = new ManualClock();
  const heard: number[] = [];
  const connection = await open(t, clock, heard);
  const text = 'select pg_advisory_lock(1)';
  const holder = await open(t, clock);
  await holder.ask(text);
  const answer = connection.ask(text);
  await running(text);
  clock.advance(4_000);
  holder.destroy('releases the lock');
  await answer;
  assert.deepEqual(heard, [0]);
});

test('a query without an answer for 5 s ends the connection', async (t) => {
  const clock = new ManualClock();
  const connection = await open(t, clock);
  const text = 'select pg_sleep(120)';
  const answer = connection.ask(text);
  await running(text);
  clock.advance(5_000);
  await assert.rejects(answer, /control database is out of reach/);
  assert.equal(await connection.ended, 'no answer within 5 s');
});
