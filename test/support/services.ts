import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { startBackground } from './background.ts';
import { findProgram } from './command.ts';
import { freePort } from './free-port.ts';
import { type Closer, temporaryDirectory } from './temporary.ts';

const program = (name: string): string => {
  const found = findProgram(name);
  if (found === undefined) throw new Error(`${name} is not installed`);
  return found;
};

/** A real MariaDB on loopback with one user; its data goes away with the test. */
export const startMariadb = async (
  t: Closer,
): Promise<{ port: number; user: string; password: string; database: string }> => {
  const directory = temporaryDirectory(t, 'mariadb');
  const data = join(directory, 'data');
  mkdirSync(data);
  const root = userInfo().uid === 0;
  if (root) {
    const id = (flag: string): number =>
      Number(execFileSync('id', [flag, 'mysql'], { encoding: 'utf8' }).trim());
    for (const path of [directory, data]) chownSync(path, id('-u'), id('-g'));
  }
  const asUser = root ? ['--user=mysql'] : [];
  const initFile = join(directory, 'init.sql');
  const account = { user: 'shop', password: 'shop-password', database: 'shop' };
  writeFileSync(
    initFile,
    [
      `create database ${account.database};`,
      `create user '${account.user}'@'127.0.0.1' identified by '${account.password}';`,
      `grant all on ${account.database}.* to '${account.user}'@'127.0.0.1';`,
      '',
    ].join('\n'),
    { mode: 0o644 },
  );
  execFileSync(
    program('mariadb-install-db'),
    [
      '--no-defaults',
      `--datadir=${data}`,
      '--skip-test-db',
      '--auth-root-authentication-method=normal',
      ...asUser,
    ],
    { stdio: 'pipe' },
  );
  const port = await freePort();
  const server = startBackground(t, program('mariadbd'), [
    '--no-defaults',
    `--datadir=${data}`,
    `--port=${port}`,
    '--bind-address=127.0.0.1',
    '--skip-name-resolve',
    `--socket=${join(directory, 'socket')}`,
    `--pid-file=${join(directory, 'pid')}`,
    `--init-file=${initFile}`,
    '--innodb-flush-log-at-trx-commit=0',
    ...asUser,
  ]);
  await server.said(/ready for connections/);
  return { port, ...account };
};

/** A self-signed certificate for 127.0.0.1 and `localhost`, which verifies as its own authority. */
export const selfSigned = (t: Closer): { certFile: string; keyFile: string } => {
  const directory = temporaryDirectory(t, 'cert');
  const certFile = join(directory, 'cert.pem');
  const keyFile = join(directory, 'key.pem');
  execFileSync(
    program('openssl'),
    [
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
      ['-keyout', keyFile, '-out', certFile],
    ].flat(),
    { stdio: 'pipe' },
  );
  return { certFile, keyFile };
};

interface Nginx {
  readonly httpPort: number;
  readonly httpsPort: number;
  readonly caFile: string;
}

/** A real nginx over HTTP and HTTPS, with these lines in its `server`. */
const runNginx = async (t: Closer, lines: string): Promise<Nginx> => {
  const directory = temporaryDirectory(t, 'nginx');
  const { certFile, keyFile } = selfSigned(t);
  const httpPort = await freePort();
  const httpsPort = await freePort();
  const configFile = join(directory, 'nginx.conf');
  writeFileSync(
    configFile,
    `daemon off;
pid ${directory}/pid;
error_log stderr notice;
worker_processes 1;
${userInfo().uid === 0 ? 'user root;' : ''}
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path ${directory}/body;
  proxy_temp_path ${directory}/proxy;
  fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi;
  scgi_temp_path ${directory}/scgi;
  server {
    listen 127.0.0.1:${httpPort};
    listen 127.0.0.1:${httpsPort} ssl;
    ssl_certificate ${certFile};
    ssl_certificate_key ${keyFile};
${lines}
  }
}
`,
  );
  const server = startBackground(t, program('nginx'), ['-p', directory, '-c', configFile, '-e', 'stderr']);
  await server.said(/start worker process /);
  return { httpPort, httpsPort, caFile: certFile };
};

/** A real nginx with one page over HTTP and HTTPS, which tells the number of the request on its connection. */
export const startNginx = (t: Closer): Promise<Nginx> =>
  runNginx(
    t,
    `location / {
      default_type text/plain;
      return 200 "request $connection_requests on this connection\\n";
    }`,
  );

/** A real nginx that serves the files of a directory as they are. */
export const startFileNginx = (
  t: Closer,
  root: string,
  demands: { readonly token?: string; readonly clientCaFile?: string } = {},
): Promise<Nginx> => {
  const client =
    demands.clientCaFile === undefined
      ? ''
      : `ssl_client_certificate ${demands.clientCaFile}; ssl_verify_client on;`;
  const token =
    demands.token === undefined
      ? ''
      : `if ($http_authorization != "Bearer ${demands.token}") { return 401; }`;
  return runNginx(t, `${client}\n    location / { ${token} root ${root}; }`);
};
