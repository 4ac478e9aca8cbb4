import { startMariadb, startNginx } from '../support/services.ts';
import type { PrivateNetwork } from '../support/private-network.ts';
import type { Closer } from '../support/temporary.ts';
import { startTlsPostgres } from '../support/tls-postgres.ts';
import type { PublishedTarget } from './family.ts';

// The servers that more than one family talks to, at their usual ports. Their TLS is of the network's authority, under
// their own names.

export const POSTGRES: PublishedTarget = { host: 'db01.corp.example', port: 5432 };
export const MARIADB: PublishedTarget = { host: 'db02.corp.example', port: 3306 };
/** One page; HTTP/1.1 and, over TLS, HTTP/2. */
export const HTTP: PublishedTarget = { host: 'web.corp.example', port: 80 };
export const HTTPS: PublishedTarget = { host: 'web.corp.example', port: 443 };

/** By connection. */
export const SHARED_TARGETS = { postgres: POSTGRES, mariadb: MARIADB, http: HTTP, https: HTTPS };

/** Its account, the same on every MariaDB of the tests. */
export const MARIADB_ACCOUNT = { user: 'shop', password: 'shop-password', database: 'shop' };

export const startSharedServers = async (t: Closer, network: PrivateNetwork): Promise<void> => {
  const [postgres, mariadb, web] = await Promise.all(
    [POSTGRES, MARIADB, HTTP].map(({ host }) => network.certificate(host)),
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
  ]);
};
