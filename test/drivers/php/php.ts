import { fileURLToPath } from 'node:url';
import { findProgram } from '../../support/command.ts';
import { TLS_POSTGRES_PASSWORD, TLS_POSTGRES_USER } from '../../support/tls-postgres.ts';
import type { DriverFamily } from '../family.ts';
import { HTTPS, MARIADB, MARIADB_ACCOUNT, POSTGRES } from '../servers.ts';

const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** PDO and curl, as Debian has them. */
export const php: DriverFamily = {
  name: 'PHP',
  needs: { php: 'php-cli' },
  async setUp(_t, { caFile }) {
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
          prints:
            /^true TLSv1\.3\n4000000\nSQLSTATE\[08006\] \[7\] .* port 5432 failed: FATAL: {2}password authentication failed for user "postgres"\n$/,
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
          prints:
            /^TLSv1\.3\n4000000\nSQLSTATE\[HY000\] \[1045\] Access denied for user 'shop'@'10\.77\.0\.\d+' \(using password: YES\)\n$/,
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
