import { fileURLToPath } from 'node:url';
import { TLS_POSTGRES_PASSWORD, TLS_POSTGRES_USER } from '../../support/tls-postgres.ts';
import { accountArgs, AT_ONCE, LARGE_DIGEST, lines, LINES_DIGEST, LONG_DIGEST } from '../expected.ts';
import type { DriverCase, DriverFamily } from '../family.ts';
import {
  HTTP,
  HTTPS,
  MARIADB,
  MARIADB_ACCOUNT,
  POSTGRES,
  SQL_SERVER,
  SQL_SERVER_ACCOUNT,
} from '../servers.ts';
import { GREETING } from '../servers-tds/statements.ts';

const run = (file: string, ...args: readonly string[]): Pick<DriverCase, 'program' | 'args'> => ({
  program: process.execPath,
  args: [fileURLToPath(new URL(file, import.meta.url)), ...args],
});

/** It may ask for the next before it has seen that the connection is free. */
const FETCHES = 3;
const FETCHED = /^200 request 1 on this connection\n(200 request [1-3] on this connection\n){2}$/;

const sqlServerLines = (name: string, encrypted: 'TRUE' | 'FALSE'): string[] =>
  [
    `encrypted [["${encrypted}"]]`,
    `batch [[42,"${GREETING}"]]`,
    'bound [[42,"grüß Gott"]]',
    'prepared [[1,"eins"],[2,"zwei"]]',
    `large ${LINES_DIGEST}`,
    `long ${LONG_DIGEST}`,
    'error Divide by zero error encountered.',
    'endless ECANCEL',
    `afterwards [[42,"${GREETING}"]]`,
    `wrong password Login failed for user '${SQL_SERVER_ACCOUNT.user}'.`,
  ].map((line) => `${name} ${line}`);

/** Drivers of Node, of the versions in package.json. */
export const node: DriverFamily = {
  name: 'Node',
  needs: {},
  async setUp(_t, network) {
    const { caFile } = network;
    return {
      targets: {},
      cases: [
        {
          name: 'pg, PostgreSQL, verify-full',
          connection: 'postgres',
          ...run(
            'pg_case.mjs',
            `postgresql://${TLS_POSTGRES_USER}:${TLS_POSTGRES_PASSWORD}@${POSTGRES.host}:${POSTGRES.port}/postgres?sslmode=verify-full&sslrootcert=${caFile}`,
          ),
          prints: lines(
            'tls {"ssl":true}',
            'bound {"n":42,"word":"grüß Gott"}',
            `large ${LARGE_DIGEST}`,
            'cancelled canceling statement due to user request',
            'afterwards {"n":1}',
            `pool ${AT_ONCE}`,
            `wrong password password authentication failed for user "${TLS_POSTGRES_USER}"`,
          ),
          maxStreams: AT_ONCE + 2,
          unanswered: 1,
        },
        {
          name: 'mysql2, MariaDB, certificate and host name verified',
          connection: 'mariadb',
          ...run('mysql2_case.mjs', ...accountArgs(MARIADB, MARIADB_ACCOUNT, caFile)),
          prints: lines(
            'tls TLSv1.3',
            'bound [{"n":42,"word":"grüß Gott"}]',
            `large ${LARGE_DIGEST}`,
            'cancelled Query execution was interrupted',
            'afterwards {"n":1}',
            `pool ${AT_ONCE}`,
            `wrong password [1045,"Access denied for user '${MARIADB_ACCOUNT.user}'@'${network.addressOf(MARIADB.host)}' (using password: YES)"]`,
          ),
          maxStreams: AT_ONCE + 1,
        },
        {
          name: 'fetch, nginx, HTTP',
          connection: 'http',
          ...run('fetch_case.mjs', `http://${HTTP.host}/`),
          prints: FETCHED,
          maxStreams: FETCHES,
        },
        {
          name: 'fetch, nginx, HTTPS with its own authority',
          connection: 'https',
          ...run('fetch_case.mjs', `https://${HTTPS.host}/`),
          env: { NODE_EXTRA_CA_CERTS: caFile },
          prints: FETCHED,
          maxStreams: FETCHES,
        },
        {
          name: 'tedious, SQL Server, every encryption',
          connection: 'sql-server',
          ...run('tedious_case.mjs', ...accountArgs(SQL_SERVER, SQL_SERVER_ACCOUNT, caFile)),
          prints: lines(
            ...sqlServerLines('on', 'TRUE'),
            ...sqlServerLines('none', 'FALSE'),
            ...sqlServerLines('strict', 'TRUE'),
            `at once ${AT_ONCE}`,
            'no authority unable to verify the first certificate',
            `another name Hostname/IP does not match certificate's altnames: Host: other.corp.example. is not in the cert's altnames: DNS:${SQL_SERVER.host}`,
          ),
          maxStreams: 8 + AT_ONCE,
        },
      ],
    };
  },
};
