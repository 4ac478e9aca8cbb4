import type { DriverFamily } from './family.ts';
import { findProgram } from '../support/command.ts';
import { TLS_POSTGRES_PASSWORD, TLS_POSTGRES_USER } from '../support/tls-postgres.ts';
import { HTTPS, MARIADB, MARIADB_ACCOUNT, POSTGRES } from './servers.ts';

/** The clients that come with the servers, and curl. */
export const commandLines: DriverFamily = {
  name: 'command lines',
  needs: { psql: 'postgresql-client', mariadb: 'mariadb-client', curl: 'curl' },
  async setUp(_t, { caFile }) {
    return {
      targets: {},
      cases: [
        {
          name: 'psql, PostgreSQL, verify-full',
          connection: 'postgres',
          program: findProgram('psql') ?? 'psql',
          args: [
            `host=${POSTGRES.host} user=${TLS_POSTGRES_USER} password=${TLS_POSTGRES_PASSWORD} dbname=postgres sslmode=verify-full sslrootcert=${caFile}`,
            '-XAtc',
            'select ssl, 6 * 7 from pg_stat_ssl where pid = pg_backend_pid()',
          ],
          prints: 't|42\n',
          maxStreams: 1,
        },
        {
          name: 'mariadb, MariaDB, certificate verified',
          connection: 'mariadb',
          program: findProgram('mariadb') ?? 'mariadb',
          args: [
            ...['--no-defaults', `--host=${MARIADB.host}`, `--user=${MARIADB_ACCOUNT.user}`],
            ...[`--password=${MARIADB_ACCOUNT.password}`, `--ssl-ca=${caFile}`, '--ssl-verify-server-cert'],
            ...['--batch', '--skip-column-names', "--execute=select length(repeat('x', 1000000))"],
          ],
          prints: '1000000\n',
          maxStreams: 1,
        },
        {
          name: 'curl, HTTP/2 over TLS',
          connection: 'https',
          program: findProgram('curl') ?? 'curl',
          args: [
            ...['--silent', '--show-error', '--cacert', caFile, '--noproxy', '*'],
            ...['--write-out', '%{http_version} %{http_code}\\n', `https://${HTTPS.host}/`],
          ],
          prints: 'request 1 on this connection\n2 200\n',
          maxStreams: 1,
        },
      ],
    };
  },
};
