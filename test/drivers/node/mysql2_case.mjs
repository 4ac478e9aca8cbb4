// mysql2_case.mjs HOST PORT USER PASSWORD DATABASE CA_FILE
import { readFileSync } from 'node:fs';
import mysql from 'mysql2/promise';
import { AT_ONCE, digest, refusalOf, say, waitUntil } from './lines.mjs';

const SLEEP = 'select sleep(300)';
const RUNNING = 'select count(*) as n from information_schema.processlist where id = ? and info = ?';

const [host, port, user, password, database, caFile] = process.argv.slice(2);
const ssl = { ca: readFileSync(caFile), rejectUnauthorized: true, verifyIdentity: true };
const settings = { host, port: Number(port), user, password, database, ssl };
const pool = mysql.createPool({ ...settings, connectionLimit: AT_ONCE });
const connections = await Promise.all(Array.from({ length: AT_ONCE }, () => pool.getConnection()));
const one = async (connection, sql, values) => (await connection.query(sql, values))[0][0];

const [connection, observer] = connections;
say('tls', (await one(connection, "show status like 'Ssl_version'")).Value);
// A prepared statement of the server, other than query().
const [bound] = await connection.execute('select ? as n, ? as word', [42, 'grüß Gott']);
say('bound', bound);
const [rows] = await connection.query("select repeat(concat(seq, ' '), 1000) as line from seq_1_to_800");
say('large', digest(rows.map(({ line }) => line)));

const cancelled = refusalOf(connection.query(SLEEP));
await waitUntil(async () => (await one(observer, RUNNING, [connection.threadId, SLEEP])).n === 1);
await observer.query(`kill query ${connection.threadId}`);
say('cancelled', (await cancelled).message);
say('afterwards', await one(connection, 'select 1 as n'));

say('pool', new Set(connections.map(({ threadId }) => threadId)).size);
for (const each of connections) each.release();
await pool.end();

const { errno, message } = await refusalOf(mysql.createConnection({ ...settings, password: 'wrong' }));
say('wrong password', [errno, message]);
