import { startMariadb, startNginx } from '../support/services.ts';
import type { PrivateNetwork } from '../support/private-network.ts';
import type { Closer } from '../support/temporary.ts';
import { startTlsPostgres } from '../support/tls-postgres.ts';
import type { PublishedTarget } from './family.ts';
import { startTdsEndpoint } from './servers-tds/endpoint.ts';

// The servers that more than one family talks to, at their usual ports. Their TLS is of the network's authority, under
// their own names.

export const POSTGRES: PublishedTarget = { host: 'db01.corp.example', port: 5432 };
export const MARIADB: PublishedTarget = { host: 'db02.corp.example', port: 3306 };
/** One page; HTTP/1.1 and, over TLS, HTTP/2. */
export const HTTP: PublishedTarget = { host: 'web.corp.example', port: 80 };
export const HTTPS: PublishedTarget = { host: 'web.corp.example', port: 443 };
/** Scripted: ./servers-tds says what it knows. */
export const SQL_SERVER: PublishedTarget = { host: 'sql01.corp.example', port: 1433 };

/** By connection. */
export const SHARED_TARGETS = {
  postgres: POSTGRES,
  mariadb: MARIADB,
  http: HTTP,
  https: HTTPS,
  'sql-server': SQL_SERVER,
};

/** Its account, the same on every MariaDB of the tests. */
export const MARIADB_ACCOUNT = { user: 'shop', password: 'shop-password', database: 'shop' };
/** The one of the scripted SQL Server. */
export const SQL_SERVER_ACCOUNT = { user: 'shop', password: 'Shop-pässword;1', database: 'shop' };

export const startSharedServers = async (t: Closer, network: PrivateNetwork): Promise<void> => {
  const [postgres, mariadb, web, sqlServer] = await Promise.all(
    [POSTGRES, MARIADB, HTTP, SQL_SERVER].map(({ host }) => network.certificate(host)),
  );
  await Promise.all([
    startTlsPostgres(t, {
      addresses: [network.addressOf(POSTGRES.host)],
      port: POSTGRES.port,
      ...postgres!,
    }),
    startMariadb(t, { address: network.addressOf(MARIADB.host), port: MARIADB.port, tls: mariadb! }),
    startNginx(t, {
      address: network.addressOf(HTTP.host),
      httpPort: HTTP.port,
      httpsPort: HTTPS.port,
      ...web!,
    }),
    startTdsEndpoint(t, {
      address: network.addressOf(SQL_SERVER.host),
      port: SQL_SERVER.port,
      ...sqlServer!,
      ...SQL_SERVER_ACCOUNT,
    }),
  ]);
};
