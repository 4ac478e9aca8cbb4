import { chmodSync, chownSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { InstalledPostgres } from './installed-postgres.ts';
import { type Closer, temporaryDirectory } from './temporary.ts';

export const TLS_POSTGRES_USER = 'postgres';
export const TLS_POSTGRES_PASSWORD = 'test-only-password';

/** Starts Debian's PostgreSQL, which takes TLS with SCRAM alone. Its key's owner becomes the server's user. */
export const startTlsPostgres = async (
  t: Closer,
  options: {
    readonly addresses: readonly string[];
    readonly port: number;
    readonly certFile: string;
    readonly keyFile: string;
  },
): Promise<void> => {
  const databaseDir = join(temporaryDirectory(t, 'tls-postgres'), 'data');
  mkdirSync(databaseDir);
  const [release = ''] = readdirSync('/usr/lib/postgresql').sort().reverse();
  const lines: string[] = [];
  const server = new InstalledPostgres(join('/usr/lib/postgresql', release, 'bin'), {
    databaseDir,
    port: options.port,
    user: TLS_POSTGRES_USER,
    password: TLS_POSTGRES_PASSWORD,
    initdbFlags: ['--no-sync', '--encoding=UTF8', '--locale=C.UTF-8'],
    postgresFlags: [
      `-clisten_addresses=${options.addresses.join(',')}`,
      `-cunix_socket_directories=${databaseDir}`,
      '-cfsync=off',
      '-cssl=on',
      `-cssl_cert_file=${options.certFile}`,
      `-cssl_key_file=${options.keyFile}`,
    ],
    onLog: (line) => lines.push(line),
  });
  await server.initialise();
  const { uid, gid } = statSync(databaseDir);
  chownSync(options.keyFile, uid, gid);
  const access = join(databaseDir, 'pg_hba.conf');
  writeFileSync(access, 'hostssl all all 10.77.0.0/16 scram-sha-256\n');
  chmodSync(access, 0o644);
  await server.start().catch((error: unknown) => {
    throw new Error(lines.join(''), { cause: error });
  });
  t.after(() => server.stop());
};
