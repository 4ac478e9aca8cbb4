// tedious_case.mjs HOST PORT USER PASSWORD DATABASE CA_FILE: with each encryption that tedious can ask for
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Connection, Request, TYPES } from 'tedious';
import { AT_ONCE, digest, refusalOf, say } from './lines.mjs';

const ROWS_BEFORE_CANCEL = 1000;

const [host, port, userName, rightPassword, database, caFile] = process.argv.slice(2);
const ca = readFileSync(caFile);

const open = (encryption, { password = rightPassword, authorities = ca } = {}) =>
  new Promise((resolve, reject) => {
    const connection = new Connection({
      server: host,
      authentication: { type: 'default', options: { userName, password } },
      options: {
        port: Number(port),
        database,
        ...encryption,
        trustServerCertificate: false,
        cryptoCredentialsDetails: { ca: authorities },
      },
    });
    connection.connect((error) => (error ? reject(error) : resolve(connection)));
  });

/** @param run by which of tedious's ways; @param onRow is called with the number of rows so far */
const ask = (connection, sql, { run = 'execSql', parameters = [], onRow = () => undefined } = {}) =>
  new Promise((resolve, reject) => {
    const rows = [];
    const request = new Request(sql, (error) => (error ? reject(error) : resolve(rows)));
    for (const parameter of parameters) request.addParameter(...parameter);
    request.on('row', (columns) => onRow(rows.push(columns.map(({ value }) => value))));
    connection[run](request);
  });

/** Runs it as a prepared statement of the server, once for each of the values. */
const askPrepared = async (connection, sql, parameters, values) => {
  const rows = [];
  const request = new Request(sql, (error) => error && request.emit('error', error));
  for (const [name, type] of parameters) request.addParameter(name, type);
  request.on('row', (columns) => rows.push(columns.map(({ value }) => value)));
  const prepared = once(request, 'prepared');
  connection.prepare(request);
  await prepared;
  for (const each of values) {
    const executed = once(request, 'requestCompleted');
    connection.execute(request, each);
    await executed;
  }
  const unprepared = once(request, 'requestCompleted');
  connection.unprepare(request);
  await unprepared;
  return rows;
};

const close = (connection) =>
  new Promise((resolve) => {
    connection.on('end', resolve);
    connection.close();
  });

const ENCRYPTIONS = {
  on: { encrypt: true },
  none: { encrypt: false },
  strict: { encrypt: 'strict', tdsVersion: '8_0' },
};

for (const [name, encryption] of Object.entries(ENCRYPTIONS)) {
  const tell = (what, value) => say(`${name} ${what}`, value);
  const connection = await open(encryption);
  const encrypted = 'select encrypt_option from sys.dm_exec_connections where session_id = @@spid';
  tell('encrypted', await ask(connection, encrypted));
  const batch = 'select 6 * 7 as answer, greeting from greetings';
  tell('batch', await ask(connection, batch, { run: 'execSqlBatch' }));
  const parameters = [
    ['n', TYPES.Int, 42],
    ['word', TYPES.NVarChar, 'grüß Gott'],
  ];
  tell('bound', await ask(connection, 'select @n as n, @word as word', { parameters }));
  const values = [
    { n: 1, word: 'eins' },
    { n: 2, word: 'zwei' },
  ];
  tell('prepared', await askPrepared(connection, 'select @n as n, @word as word', parameters, values));
  tell('large', digest((await ask(connection, 'select id, line from lines')).map(([, line]) => line)));
  tell('long', digest((await ask(connection, 'select long_text from long_texts'))[0]));
  tell('error', (await refusalOf(ask(connection, 'select 1 / 0'))).message);
  // An attention, while the server is sending as fast as it is read.
  const onRow = (count) => count === ROWS_BEFORE_CANCEL && connection.cancel();
  const endless = ask(connection, 'select value from generate_series(1, 2147483647)', { onRow });
  tell('endless', (await refusalOf(endless)).code);
  tell('afterwards', await ask(connection, batch));
  await close(connection);
  tell('wrong password', (await refusalOf(open(encryption, { password: 'wrong' }))).message);
}

const connections = await Promise.all(Array.from({ length: AT_ONCE }, () => open(ENCRYPTIONS.on)));
const ids = await Promise.all(connections.map((each) => ask(each, 'select @@spid as session_id')));
say('at once', new Set(ids.flat(2)).size);
await Promise.all(connections.map(close));

const refused = async (...how) => (await refusalOf(open(...how))).message.replace(/^.* - /, '');
say('no authority', await refused(ENCRYPTIONS.on, { authorities: [] }));
say('another name', await refused({ ...ENCRYPTIONS.on, serverName: 'other.corp.example' }));
