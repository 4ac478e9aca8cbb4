// pg_case.mjs CONNECTION_STRING
import pg from 'pg';
import { AT_ONCE, digest, refusalOf, say, waitUntil } from './lines.mjs';

const SLEEP = 'select pg_sleep(300)';
const RUNNING =
  "select count(*)::int as n from pg_stat_activity where pid = $1 and state = 'active' and query = $2";

const connectionString = process.argv[2];
const pool = new pg.Pool({ connectionString, max: AT_ONCE });
const clients = await Promise.all(Array.from({ length: AT_ONCE }, () => pool.connect()));
const one = async (client, ...query) => (await client.query(...query)).rows[0];

const [client, observer] = clients;
say('tls', await one(client, 'select ssl from pg_stat_ssl where pid = pg_backend_pid()'));
say('bound', await one(client, 'select $1::int as n, $2::text as word', [42, 'grüß Gott']));
const { rows } = await client.query(
  "select repeat(i::text || ' ', 1000) as line from generate_series(1, 800) i",
);
say('large', digest(rows.map(({ line }) => line)));

const { pid } = await one(client, 'select pg_backend_pid() as pid');
const sleep = new pg.Query(SLEEP);
const cancelled = new Promise((resolve) => sleep.on('error', resolve).on('end', resolve));
client.query(sleep);
await waitUntil(async () => (await one(observer, RUNNING, [pid, SLEEP])).n === 1);
// A connection of its own, with 16 bytes and no TLS; the server answers nothing.
const { host, port } = client;
new pg.Client({ host, port, ssl: false }).cancel(client, sleep);
say('cancelled', (await cancelled).message);
say('afterwards', await one(client, 'select 1 as n'));

const pids = await Promise.all(clients.map((each) => one(each, 'select pg_backend_pid() as pid')));
say('pool', new Set(pids.map((each) => each.pid)).size);
for (const each of clients) each.release();
await pool.end();

const wrong = new URL(connectionString);
wrong.password = 'wrong';
say('wrong password', (await refusalOf(new pg.Client(wrong.href).connect())).message);
