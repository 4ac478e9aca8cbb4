import type { TestContext } from 'node:test';
import type { PrivateNetwork } from '../../support/private-network.ts';
import { type DriverCase, inLines, type PublishedTarget } from '../family.ts';
import { startOracle } from '../servers-oracle/listener.ts';

const SCAN: PublishedTarget = { host: 'ora-scan.corp.example', port: 1521 };
const NODE: PublishedTarget = { host: 'ora-node.corp.example', port: 1521 };
/** TCPS. */
const SECURE: PublishedTarget = { host: 'ora-scan.corp.example', port: 2484 };
const ACCOUNT = { user: 'SHOP', password: 'only_for_tests' };

const ROWS = ['first', 'zweite ä', '20000 rows, 4000000 characters'];

/** Two scripted listeners, of which one sends clients to the other, and what ojdbc makes of it. */
export const startOracleTargets = async (
  t: TestContext,
  network: PrivateNetwork,
): Promise<{
  readonly targets: Readonly<Record<string, PublishedTarget>>;
  readonly cases: readonly Omit<DriverCase, 'program'>[];
}> => {
  const nodeAddress = network.addressOf(NODE.host);
  await startOracle(t, {
    address: network.addressOf(SCAN.host),
    port: SCAN.port,
    account: ACCOUNT,
    services: ['orders'],
    elsewhere: { 'to-name': NODE, 'to-address': { host: nodeAddress, port: NODE.port } },
  });
  await startOracle(t, {
    address: nodeAddress,
    port: NODE.port,
    account: ACCOUNT,
    services: ['to-name', 'to-address'],
  });
  await startOracle(t, {
    address: network.addressOf(SECURE.host),
    port: SECURE.port,
    tls: await network.certificate(SECURE.host),
    account: ACCOUNT,
    services: ['orders'],
  });
  const url = (service: string, password = ACCOUNT.password): string =>
    `jdbc:oracle:thin:shop/${password}@//${SCAN.host}:${SCAN.port}/${service}`;
  return {
    targets: { oracle: SCAN, 'oracle-node': NODE, 'oracle-tls': SECURE },
    cases: [
      {
        name: 'ojdbc, scripted Oracle, O5LOGON',
        connection: 'oracle',
        args: [url('orders'), url('orders', 'wrong'), url('unknown'), url('to-address')],
        prints: inLines(
          ...ROWS,
          '1017 72000 ORA-01017: invalid username/password; logon denied',
          /12514 08006 ORA-12514: .* Service unknown is not registered with the listener at host ora-scan\.corp\.example port 1521\. .*/,
          '4 at the same time',
          'let in',
        ),
      },
      {
        name: 'ojdbc, scripted Oracle, redirected to a published name',
        connection: 'oracle-node',
        args: [url('to-name')],
        prints: inLines(...ROWS),
        // And no more: the other program's redirect to an address goes around the tunnel.
        maxStreams: 1,
      },
      {
        name: 'ojdbc, scripted Oracle over TLS, certificate and host name verified',
        connection: 'oracle-tls',
        args: [
          `jdbc:oracle:thin:shop/${ACCOUNT.password}@tcps://${SECURE.host}:${SECURE.port}/orders?ssl_server_dn_match=true`,
        ],
        prints: inLines(...ROWS),
        maxStreams: 1,
      },
    ],
  };
};
