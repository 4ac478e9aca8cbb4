import { join } from 'node:path';
import { findProgram, projectRoot } from '../../support/command.ts';
import { TLS_POSTGRES_PASSWORD, TLS_POSTGRES_USER } from '../../support/tls-postgres.ts';
import { buildTool, missingTool, mustRun } from '../build-tool.ts';
import { type DriverFamily, inLines } from '../family.ts';
import { LINES } from '../servers-tds/statements.ts';
import { startOracleTargets } from './oracle.ts';
import { HTTPS, MARIADB, MARIADB_ACCOUNT, POSTGRES, SQL_SERVER, SQL_SERVER_ACCOUNT } from '../servers.ts';

/** What tools/build-java-tools.mjs makes. */
const TOOLS = join(projectRoot, '.tools/java');
const TRUST_PASSWORD = 'test-only-password';

const TOOL = 'build-java-tools.mjs';

/** What arguments and output are in. */
const UTF_8 = { LC_ALL: 'C.UTF-8' };

/** JDBC and java.net.http, of Java 17 and newer. */
export const java: DriverFamily = {
  name: 'Java',
  needs: { java: 'default-jdk-headless', javac: 'default-jdk-headless', keytool: 'default-jdk-headless' },
  missing: missingTool('.tools/java/jars/made-from', TOOL),
  async setUp(t, network) {
    const { caFile, folder } = network;
    await buildTool(TOOL, '--compile');
    const trustFile = join(folder, 'trust.p12');
    await mustRun(findProgram('keytool') ?? 'keytool', [
      ...['-importcert', '-noprompt', '-alias', 'ca', '-file', caFile],
      ...['-keystore', trustFile, '-storepass', TRUST_PASSWORD, '-storetype', 'PKCS12'],
    ]);
    /** For short lives, and one core. */
    const flags = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xshare:auto'];
    const trust = [
      `-Djavax.net.ssl.trustStore=${trustFile}`,
      `-Djavax.net.ssl.trustStorePassword=${TRUST_PASSWORD}`,
    ];
    const classPath = ['-cp', `${join(TOOLS, 'classes')}:${join(TOOLS, 'jars/*')}`];
    const program = findProgram('java') ?? 'java';
    const postgres = (password: string): string =>
      `jdbc:postgresql://${POSTGRES.host}/postgres?user=${TLS_POSTGRES_USER}&password=${password}&sslmode=verify-full&sslrootcert=${caFile}`;
    const mariadb = (password: string): string =>
      `jdbc:mariadb://${MARIADB.host}/${MARIADB_ACCOUNT.database}?user=${MARIADB_ACCOUNT.user}&password=${password}&sslMode=verify-full&serverSslCert=${caFile}`;
    const sqlServer = (password: string): string =>
      [
        `jdbc:sqlserver://${SQL_SERVER.host};databaseName=${SQL_SERVER_ACCOUNT.database}`,
        `user=${SQL_SERVER_ACCOUNT.user};password={${password}};encrypt=true;trustServerCertificate=false`,
        `trustStore=${trustFile};trustStorePassword=${TRUST_PASSWORD}`,
      ].join(';');
    const oracle = await startOracleTargets(t, network);
    return {
      targets: oracle.targets,
      cases: [
        ...oracle.cases.map(({ args, ...theCase }) => ({
          ...theCase,
          program,
          env: UTF_8,
          args: [...flags, ...trust, ...classPath, 'OracleCase', ...args],
        })),
        {
          name: 'pgjdbc, PostgreSQL, verify-full',
          connection: 'postgres',
          program,
          args: [...flags, ...classPath, 'PostgresCase', postgres(TLS_POSTGRES_PASSWORD), postgres('wrong')],
          prints: [
            't',
            '8000 rows, 8000000 characters',
            `0 28P01 FATAL: password authentication failed for user "${TLS_POSTGRES_USER}"`,
            '4 at the same time',
            '57014 ERROR: canceling statement due to user request, then 42\n',
          ].join('\n'),
          maxStreams: 9,
          unanswered: 1,
        },
        {
          name: 'MariaDB Connector/J, MariaDB, verify-full',
          connection: 'mariadb',
          program,
          args: [...flags, ...classPath, 'MariadbCase', mariadb(MARIADB_ACCOUNT.password), mariadb('wrong')],
          // It names the connections, which have other numbers each time.
          prints: inLines(
            '1',
            '8000 rows, 8000000 characters',
            /1045 28000 \(conn=\d+\) Access denied for user 'shop'@'10\.77\.0\.\d+' \(using password: YES\)/,
            '4 at the same time',
            /70100 \(conn=\d+\) Query execution was interrupted, then 42/,
          ),
          maxStreams: 9,
        },
        {
          name: 'mssql-jdbc, scripted SQL Server, certificate verified',
          connection: 'sql-server',
          program,
          env: UTF_8,
          args: [
            ...[...flags, ...classPath, 'SqlServerCase', sqlServer(SQL_SERVER_ACCOUNT.password)],
            ...[sqlServer('wrong'), `${sqlServer(SQL_SERVER_ACCOUNT.password)};multiSubnetFailover=true`],
          ],
          prints: inLines(
            'TRUE',
            '42 grüß Gott',
            `${LINES} rows, ${LINES * 1000} characters`,
            'HY008 The query was canceled. Then 42',
            /18456 S0001 Login failed for user 'shop'\. ClientConnectionId:[-0-9a-f]+/,
            '4 at the same time',
            'MultiSubnetFailover TRUE',
          ),
          maxStreams: 7,
        },
        {
          name: 'java.net.http, HTTPS, its own authority',
          connection: 'https',
          program,
          args: [...flags, ...trust, ...classPath, 'HttpCase', `https://${HTTPS.host}/`],
          prints: ['HTTP_1_1', 'HTTP_2']
            .flatMap((version) => [1, 2].map((n) => `${version} 200 request ${n} on this connection\n`))
            .join(''),
          maxStreams: 2,
        },
      ],
    };
  },
};
