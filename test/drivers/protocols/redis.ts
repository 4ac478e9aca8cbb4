import { randomBytes } from 'node:crypto';
import { findProgram } from '../../support/command.ts';
import type { PrivateNetwork } from '../../support/private-network.ts';
import { startBackground } from '../../support/background.ts';
import type { Closer } from '../../support/temporary.ts';
import type { DriverCase, PublishedTarget } from '../family.ts';

const PLAIN: PublishedTarget = { host: 'cache.corp.example', port: 6379 };
const TLS: PublishedTarget = { host: PLAIN.host, port: 6380 };
const PASSWORD = 'cache-password';
/** Commands that are sent without waiting for their answers. */
const PIPELINED = 10_000;

const LONG = randomBytes(250_000).toString('hex');

/** The commands, and what they answer when nobody reads them on a terminal. */
const DIALOGUE = [
  ['set greeting "over the tunnel"', 'OK'],
  ['get greeting', 'over the tunnel'],
  [`set long ${LONG}`, 'OK'],
  ['get long', LONG],
  ['get', "ERR wrong number of arguments for 'get' command\n"],
] as const;

export const startRedis = async (
  t: Closer,
  network: PrivateNetwork,
): Promise<{ targets: Record<string, PublishedTarget>; cases: DriverCase[] }> => {
  const { certFile, keyFile } = await network.certificate(PLAIN.host);
  const server = startBackground(t, findProgram('redis-server') ?? '', [
    ...['--bind', network.addressOf(PLAIN.host), '--port', String(PLAIN.port), '--requirepass', PASSWORD],
    ...['--tls-port', String(TLS.port), '--tls-cert-file', certFile, '--tls-key-file', keyFile],
    ...['--tls-auth-clients', 'no', '--tls-ca-cert-file', network.caFile],
    ...['--save', '', '--appendonly', 'no', '--dir', network.folder],
  ]);
  await server.said(/Ready to accept connections/);

  const program = findProgram('redis-cli') ?? '';
  const input = `${DIALOGUE.map(([command]) => command).join('\n')}\n`;
  const prints = `${DIALOGUE.map(([, answer]) => answer).join('\n')}\n`;
  const url = (scheme: string, { host, port }: PublishedTarget): string =>
    `${scheme}://default:${PASSWORD}@${host}:${port}/0`;
  const verified = ['--sni', TLS.host, '--cacert', network.caFile];
  const pipelined = Array.from({ length: PIPELINED }, (_, at) => `set key:${at} ${at}\r\n`).join('');
  return {
    targets: { redis: PLAIN, 'redis-tls': TLS },
    cases: [
      {
        name: 'redis-cli, Redis, plain',
        connection: 'redis',
        program,
        args: ['--no-auth-warning', '-u', url('redis', PLAIN)],
        input,
        prints,
        maxStreams: 1,
      },
      {
        name: 'redis-cli, Redis, TLS',
        connection: 'redis-tls',
        program,
        args: ['--no-auth-warning', ...verified, '-u', url('rediss', TLS)],
        input,
        prints,
        maxStreams: 1,
      },
      {
        name: 'redis-cli, Redis, TLS, 10,000 commands in one pipeline',
        connection: 'redis-tls',
        program,
        args: ['--no-auth-warning', ...verified, '-u', url('rediss', TLS), '--pipe'],
        input: pipelined,
        prints: /\nerrors: 0, replies: 10000\n$/,
        maxStreams: 1,
      },
    ],
  };
};
