import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findProgram } from '../../support/command.ts';
import { TLS_POSTGRES_PASSWORD, TLS_POSTGRES_USER } from '../../support/tls-postgres.ts';
import { type DriverFamily, inLines } from '../family.ts';
import { HTTPS, MARIADB, MARIADB_ACCOUNT, POSTGRES, SQL_SERVER, SQL_SERVER_ACCOUNT } from '../servers.ts';
import { GREETING, LINES } from '../servers-tds/statements.ts';

const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** PDO and curl, as Debian has them. */
export const php: DriverFamily = {
  name: 'PHP',
  needs: { php: 'php-cli, with php-mysql, php-pgsql, php-sybase, php-curl' },
  async setUp(_t, { caFile, folder }) {
    const freetdsFile = join(folder, 'freetds.conf');
    writeFileSync(
      freetdsFile,
      [
        '[global]',
        'encryption = require',
        `ca file = ${caFile}`,
        'check certificate hostname = yes',
        '',
      ].join('\n'),
    );
    const program = findProgram('php') ?? 'php';
    return {
      targets: {},
      cases: [
        {
          name: 'PDO pgsql, PostgreSQL, verify-full',
          connection: 'postgres',
          program,
          args: [
            script('postgres.php'),
            `pgsql:host=${POSTGRES.host};dbname=postgres;sslmode=verify-full;sslrootcert=${caFile}`,
            ...[TLS_POSTGRES_USER, TLS_POSTGRES_PASSWORD],
          ],
          // Before the server's own words libpq names the address that it dialled.
          prints: inLines(
            'true TLSv1.3',
            '4000000',
            /SQLSTATE\[08006\] \[7\] .* port 5432 failed: FATAL: {2}password authentication failed for user "postgres"/,
          ),
          maxStreams: 2,
        },
        {
          name: 'PDO mysql, MariaDB, certificate verified',
          connection: 'mariadb',
          program,
          args: [
            script('mariadb.php'),
            `mysql:host=${MARIADB.host};dbname=${MARIADB_ACCOUNT.database}`,
            ...[MARIADB_ACCOUNT.user, MARIADB_ACCOUNT.password, caFile],
          ],
          prints: inLines(
            'TLSv1.3',
            '4000000',
            /SQLSTATE\[HY000\] \[1045\] Access denied for user 'shop'@'10\.77\.0\.\d+' \(using password: YES\)/,
          ),
          maxStreams: 2,
        },
        {
          name: 'PDO dblib (FreeTDS), scripted SQL Server, certificate verified',
          connection: 'sql-server',
          program,
          env: { FREETDSCONF: freetdsFile, LC_ALL: 'C.UTF-8' },
          args: [
            script('sqlserver.php'),
            `dblib:host=${SQL_SERVER.host}:${SQL_SERVER.port};dbname=${SQL_SERVER_ACCOUNT.database};charset=UTF-8`,
            ...[SQL_SERVER_ACCOUNT.user, SQL_SERVER_ACCOUNT.password],
          ],
          // FreeTDS keeps what the server says of a login to itself.
          prints: [
            'TRUE',
            `42 ${GREETING}`,
            String(LINES * 1000),
            'SQLSTATE[HY000]: General error: 20018 Divide by zero error encountered. [20018] (severity 16) [select 1 / 0]',
            `SQLSTATE[01002] Adaptive Server connection failed (${SQL_SERVER.host}) (severity 9)\n`,
          ].join('\n'),
          maxStreams: 2,
        },
        {
          name: 'PHP curl, HTTPS, its own authority',
          connection: 'https',
          program,
          args: [script('https.php'), `https://${HTTPS.host}/`, caFile],
          prints: 'HTTP/1.1 200 request 1 on this connection\nHTTP/2 200 request 1 on this connection\n',
          maxStreams: 2,
        },
      ],
    };
  },
};
