import { fileURLToPath } from 'node:url';
import { PYTHON, pythonMissing } from '../../support/python.ts';
import { TLS_POSTGRES_PASSWORD, TLS_POSTGRES_USER } from '../../support/tls-postgres.ts';
import { accountArgs, AT_ONCE, LARGE_DIGEST, lines, LINES_DIGEST, LONG_DIGEST, PAGES } from '../expected.ts';
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

/** `-B`: it writes nothing beside the programs. */
const run = (file: string, ...args: readonly string[]): Pick<DriverCase, 'program' | 'args'> => ({
  program: PYTHON,
  args: ['-B', fileURLToPath(new URL(file, import.meta.url)), ...args],
});

const sqlServerLines = (name: string, encrypted: 'TRUE' | 'FALSE'): string[] =>
  [
    `encrypted ${encrypted}`,
    `batch (42, '${GREETING}')`,
    "bound (42, 'grüß Gott')",
    `large ${LINES_DIGEST}`,
    `long ${LONG_DIGEST}`,
    'error Divide by zero error encountered.',
    'endless (1,)',
    'afterwards 42',
    `wrong password Login failed for user '${SQL_SERVER_ACCOUNT.user}'.`,
  ].map((line) => `${name} ${line}`);

/** Drivers of Python, of the versions in tools/python/requirements.txt. */
export const python: DriverFamily = {
  name: 'Python',
  needs: {},
  missing: pythonMissing,
  async setUp(_t, network) {
    const { caFile } = network;
    return {
      targets: {},
      cases: [
        {
          name: 'psycopg, PostgreSQL, verify-full',
          connection: 'postgres',
          ...run(
            'psycopg_case.py',
            `host=${POSTGRES.host} user=${TLS_POSTGRES_USER} password=${TLS_POSTGRES_PASSWORD} dbname=postgres sslmode=verify-full sslrootcert=${caFile}`,
          ),
          prints: lines(
            'tls True',
            "bound (42, 'grüß Gott')",
            `large ${LARGE_DIGEST}`,
            'cancelled canceling statement due to user request',
            'afterwards 1',
            `pool ${AT_ONCE}`,
            `wrong password FATAL:  password authentication failed for user "${TLS_POSTGRES_USER}"`,
          ),
          // Two, the cancel request, the pool's, the wrong password.
          maxStreams: 4 + AT_ONCE,
        },
        {
          name: 'PyMySQL, MariaDB, certificate and host name verified',
          connection: 'mariadb',
          ...run('pymysql_case.py', ...accountArgs(MARIADB, MARIADB_ACCOUNT, caFile)),
          prints: lines(
            'tls TLSv1.3',
            "bound (42, 'grüß Gott')",
            `large ${LARGE_DIGEST}`,
            "cancelled (1317, 'Query execution was interrupted')",
            'afterwards 1',
            `at once ${AT_ONCE}`,
            // The agent is on the server's own machine here; elsewhere it is the agent's address.
            `wrong password (1045, "Access denied for user '${MARIADB_ACCOUNT.user}'@'${network.addressOf(MARIADB.host)}' (using password: YES)")`,
          ),
          maxStreams: 3 + AT_ONCE,
        },
        {
          name: 'requests, nginx, HTTP',
          connection: 'http',
          ...run('requests_case.py', `http://${HTTP.host}/`),
          prints: lines(...PAGES),
          maxStreams: 1,
        },
        {
          name: 'requests, nginx, HTTPS with its own authority',
          connection: 'https',
          ...run('requests_case.py', `https://${HTTPS.host}/`, caFile),
          prints: lines(...PAGES, 'public authorities True'),
          maxStreams: 2,
        },
        {
          name: 'python-tds, SQL Server, every encryption',
          connection: 'sql-server',
          ...run('pytds_case.py', ...accountArgs(SQL_SERVER, SQL_SERVER_ACCOUNT, caFile)),
          prints: lines(
            ...sqlServerLines('on', 'TRUE'),
            ...sqlServerLines('login only', 'FALSE'),
            ...sqlServerLines('none', 'FALSE'),
            'timeout 42',
            `at once ${AT_ONCE}`,
          ),
          maxStreams: 7 + AT_ONCE,
        },
      ],
    };
  },
};
