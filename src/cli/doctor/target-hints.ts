/** What speaks on a port, as far as its number tells. */
export type TargetProtocol =
  | 'sql server'
  | 'sql browser'
  | 'oracle'
  | 'mysql'
  | 'postgresql'
  | 'redis'
  | 'http'
  | 'https'
  | 'unknown';

const BY_PORT: Readonly<Record<number, TargetProtocol>> = {
  80: 'http',
  443: 'https',
  1433: 'sql server',
  1434: 'sql browser',
  1521: 'oracle',
  3306: 'mysql',
  5432: 'postgresql',
  6379: 'redis',
  8080: 'http',
  8443: 'https',
};

export const protocolOf = (port: number): TargetProtocol => BY_PORT[port] ?? 'unknown';

/** What to look at when nobody takes the connection. */
export const REFUSED_HINT: Readonly<Record<TargetProtocol, string>> = {
  'sql server':
    'SQL Server has TCP disabled by default: enable TCP/IP in its network configuration, give a named instance a static port there, and restart it',
  'sql browser': 'publish the static TCP port of the instance instead',
  oracle: 'see `lsnrctl status`: the listener must be up and listen on this address, not on localhost only',
  mysql: 'see skip-networking and bind-address of MySQL or MariaDB',
  postgresql: 'see listen_addresses of postgresql.conf',
  redis: 'see bind and protected-mode of redis.conf',
  http: 'see which address and port the web server listens on',
  https: 'see which address and port the web server listens on',
  unknown: 'see that the service runs and listens on this address',
};

/** What surprises people who reach it through an agent; undefined: nothing known. */
export const REACHED_HINT: Readonly<Record<TargetProtocol, string | undefined>> = {
  'sql server':
    'Windows logins rarely work through a tunnel, SQL authentication does; a named instance needs a static port (HOST\\NAME asks the SQL Browser, UDP 1434, which is not carried)',
  'sql browser': undefined,
  oracle:
    'a listener that redirects (RAC, shared server) names another host and port, which needs a connection of its own',
  mysql: "grants by host ('user'@'host') see the address of this agent",
  postgresql: 'pg_hba.conf sees the address of this agent',
  redis: undefined,
  http: 'the server sees the Host header that the application sends: it must know that name',
  https:
    'the server sees the name (SNI, Host) that the application sends: its certificate must have that name',
  unknown: undefined,
};

/** What is sent to make a server that waits for its client say something; it changes nothing there. */
const SSL_REQUEST = Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
/** PRELOGIN with a version and ENCRYPT_OFF (MS-TDS §2.2.6.5). */
const PRELOGIN = Buffer.from(
  '1201001a00000000' + '00000b0006' + '0100110001' + 'ff' + '000000000000' + '00' + '00',
  'hex',
);

export const questionFor = (protocol: TargetProtocol, host: string): Buffer | undefined => {
  if (protocol === 'postgresql') return SSL_REQUEST;
  if (protocol === 'redis') return Buffer.from('PING\r\n');
  if (protocol === 'sql server') return PRELOGIN;
  if (protocol === 'http')
    return Buffer.from(`HEAD / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  return undefined;
};

/** What a first answer says of the server, and what to do about it. */
export interface Heard {
  readonly text: string;
  readonly remedy?: string;
}

const MYSQL_HEADER = 4;
const MYSQL_ERROR = 0xff;
const MYSQL_GREETING = 0x0a;
const TDS_RESPONSE = 0x04;
const SHOWN = 60;

const mysqlHeard = (answer: Buffer): Heard | undefined => {
  const first = answer[MYSQL_HEADER];
  if (first === MYSQL_GREETING) {
    const end = answer.indexOf(0, MYSQL_HEADER + 1);
    return { text: `MySQL or MariaDB ${answer.toString('latin1', MYSQL_HEADER + 1, end)} greets` };
  }
  if (first !== MYSQL_ERROR || answer.length < MYSQL_HEADER + 3) return undefined;
  const message = answer.toString('latin1', MYSQL_HEADER + 3).slice(0, 2 * SHOWN);
  return {
    text: `it refuses this host: ${message}`,
    remedy:
      "grant a user for this agent's address: CREATE USER 'name'@'address'; a blocked host: FLUSH HOSTS",
  };
};

const postgresHeard = (answer: Buffer): Heard => {
  const [first] = answer.toString('latin1', 0, 1);
  if (first === 'S') return { text: 'PostgreSQL, and it takes TLS' };
  if (first === 'N')
    return { text: 'PostgreSQL, without TLS: clients must use sslmode=prefer, allow or disable' };
  return { text: 'it does not answer as PostgreSQL does' };
};

const redisHeard = (answer: Buffer): Heard => {
  const line = answer.toString('latin1').split('\r\n', 1)[0] ?? '';
  if (line.startsWith('-DENIED'))
    return {
      text: 'Redis in protected mode',
      remedy: 'set a password (requirepass) or protected-mode no: it answers to loopback only',
    };
  if (line.startsWith('-NOAUTH')) return { text: 'Redis, which asks for a password' };
  return { text: `Redis answers ${line.slice(0, SHOWN)}` };
};

/** Reads the first bytes of a server. */
export const heardFrom = (protocol: TargetProtocol, answer: Buffer): Heard => {
  if (protocol === 'postgresql') return postgresHeard(answer);
  if (protocol === 'redis') return redisHeard(answer);
  if (protocol === 'sql server') {
    return {
      text: answer[0] === TDS_RESPONSE ? 'SQL Server answers' : 'it does not answer as SQL Server does',
    };
  }
  const mysql = protocol === 'mysql' ? mysqlHeard(answer) : undefined;
  if (mysql !== undefined) return mysql;
  const line = answer.toString('latin1').split(/\r?\n/, 1)[0] ?? '';
  const shown = /^[\x20-\x7e]+$/.test(line)
    ? line.slice(0, SHOWN)
    : `${String(answer.length)} bytes of no text`;
  return { text: `it says ${JSON.stringify(shown)}` };
};
