import { execFileSync } from 'node:child_process';
import { chownSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
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

export interface MariadbOptions {
  readonly address: string;
  readonly port: number;
  /** TLS then, for who asks for it. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string };
}

/** A real MariaDB with one user, by default on loopback; its data goes away with the test. */
export const startMariadb = async (
  t: Closer,
  options?: MariadbOptions,
): Promise<{ port: number; user: string; password: string; database: string }> => {
  const directory = temporaryDirectory(t, 'mariadb');
  const data = join(directory, 'data');
  mkdirSync(data);
  const root = userInfo().uid === 0;
  if (root) {
    const id = (flag: string): number =>
      Number(execFileSync('id', [flag, 'mysql'], { encoding: 'utf8' }).trim());
    for (const path of [directory, data, ...(options?.tls === undefined ? [] : [options.tls.keyFile])])
      chownSync(path, id('-u'), id('-g'));
  }
  const asUser = root ? ['--user=mysql'] : [];
  const initFile = join(directory, 'init.sql');
  const account = { user: 'shop', password: 'shop-password', database: 'shop' };
  writeFileSync(
    initFile,
    [
      `create database ${account.database};`,
      `create user '${account.user}'@'%' identified by '${account.password}';`,
      `grant all on ${account.database}.* to '${account.user}'@'%';`,
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
  const port = options?.port ?? (await freePort());
  const server = startBackground(t, program('mariadbd'), [
    '--no-defaults',
    `--datadir=${data}`,
    `--port=${port}`,
    `--bind-address=${options?.address ?? '127.0.0.1'}`,
    ...(options?.tls === undefined
      ? []
      : [`--ssl-cert=${options.tls.certFile}`, `--ssl-key=${options.tls.keyFile}`]),
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

/** Where an nginx listens, and what it shows. */
export interface NginxOptions {
  readonly address: string;
  readonly httpPort: number;
  readonly httpsPort: number;
  readonly certFile: string;
  readonly keyFile: string;
}

/** A real nginx over HTTP and HTTPS with HTTP/2, with these lines in its `server`. */
const runNginx = async (t: Closer, lines: string, options?: NginxOptions): Promise<Nginx> => {
  const directory = temporaryDirectory(t, 'nginx');
  const address = options?.address ?? '127.0.0.1';
  const { certFile, keyFile } = options ?? selfSigned(t);
  const httpPort = options?.httpPort ?? (await freePort());
  const httpsPort = options?.httpsPort ?? (await freePort());
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
    listen ${address}:${httpPort};
    listen ${address}:${httpsPort} ssl http2;
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

/** Addresses that a real proxy of these tests dials from, so that a relay can tell it from a client. */
export const STREAM_PROXY_ADDRESS = '127.0.0.5';
export const HTTP_PROXY_ADDRESS = '127.0.0.6';

/** A real nginx that passes TCP on with `proxy_protocol on`, which is version 1; resolves with its port. */
export const startNginxStream = async (t: Closer, relayPort: number): Promise<number> => {
  const directory = temporaryDirectory(t, 'nginx-stream');
  const port = await freePort();
  const configFile = join(directory, 'nginx.conf');
  writeFileSync(
    configFile,
    `load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
pid ${directory}/pid;
error_log stderr notice;
worker_processes 1;
${userInfo().uid === 0 ? 'user root;' : ''}
events { worker_connections 256; }
stream {
  server {
    listen 127.0.0.1:${port};
    proxy_pass 127.0.0.1:${relayPort};
    proxy_bind ${STREAM_PROXY_ADDRESS};
    proxy_protocol on;
  }
}
`,
  );
  const server = startBackground(t, program('nginx'), ['-p', directory, '-c', configFile, '-e', 'stderr']);
  await server.said(/start worker process /);
  return port;
};

/**
 * A real HAProxy before a relay: one port that passes TCP on with a version 2 header, and one that ends TLS and
 * passes HTTP on with X-Forwarded-For.
 */
export const startHaproxy = async (
  t: Closer,
  relayPort: number,
  tls: { readonly cert: string; readonly key: string; readonly ca: string },
): Promise<{ tcpPort: number; httpsPort: number }> => {
  const directory = temporaryDirectory(t, 'haproxy');
  const tcpPort = await freePort();
  const httpsPort = await freePort();
  const pemFile = join(directory, 'front.pem');
  const caFile = join(directory, 'ca.pem');
  writeFileSync(pemFile, `${tls.cert}\n${tls.key}`, { mode: 0o600 });
  writeFileSync(caFile, tls.ca);
  const configFile = join(directory, 'haproxy.cfg');
  writeFileSync(
    configFile,
    `global
  log stderr format raw daemon notice
defaults
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 60s
listen data
  mode tcp
  bind 127.0.0.1:${tcpPort}
  server relay 127.0.0.1:${relayPort} send-proxy-v2 source ${STREAM_PROXY_ADDRESS}
listen control
  mode http
  bind 127.0.0.1:${httpsPort} ssl crt ${pemFile}
  option forwardfor
  server relay 127.0.0.1:${relayPort} ssl verify required ca-file ${caFile} source ${HTTP_PROXY_ADDRESS}
`,
  );
  const server = startBackground(t, program('haproxy'), ['-W', '-db', '-f', configFile]);
  await server.said(/Loading success/);
  return { tcpPort, httpsPort };
};

/** A real nginx with one page over HTTP and HTTPS, which tells the number of the request on its connection. */
export const startNginx = (t: Closer, options?: NginxOptions): Promise<Nginx> =>
  runNginx(
    t,
    `location / {
      default_type text/plain;
      return 200 "request $connection_requests on this connection\\n";
    }`,
    options,
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

/** A real sshd, by default on loopback, that lets in one key, for the user who runs the test. */
export const startSshd = async (
  t: Closer,
  options?: { readonly address: string; readonly port: number },
): Promise<{
  readonly port: number;
  readonly user: string;
  readonly keyFile: string;
  readonly hostKey: string;
}> => {
  const directory = temporaryDirectory(t, 'sshd');
  const file = (name: string): string => join(directory, name);
  for (const name of ['host_key', 'user_key'])
    execFileSync(program('ssh-keygen'), ['-q', '-t', 'ed25519', '-N', '', '-f', file(name)]);
  // Root's sshd wants the directory that its service would have made.
  if (userInfo().uid === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
  const port = options?.port ?? (await freePort());
  writeFileSync(
    file('sshd_config'),
    [
      `Port ${port}`,
      `ListenAddress ${options?.address ?? '127.0.0.1'}`,
      `HostKey ${file('host_key')}`,
      `AuthorizedKeysFile ${file('user_key.pub')}`,
      `PidFile ${file('sshd.pid')}`,
      'UsePAM no',
      'StrictModes no',
      'PasswordAuthentication no',
      'PermitRootLogin prohibit-password',
      'Subsystem sftp internal-sftp',
      '',
    ].join('\n'),
  );
  const server = startBackground(t, program('sshd'), ['-D', '-e', '-f', file('sshd_config')]);
  await server.said(/Server listening/);
  const [type = '', key = ''] = readFileSync(file('host_key.pub'), 'utf8').split(' ');
  return { port, user: userInfo().username, keyFile: file('user_key'), hostKey: `${type} ${key}` };
};
