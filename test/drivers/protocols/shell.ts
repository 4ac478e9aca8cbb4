import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from '../../support/command.ts';
import type { PrivateNetwork } from '../../support/private-network.ts';
import { startSshd } from '../../support/services.ts';
import { type Closer, temporaryDirectory } from '../../support/temporary.ts';
import type { DriverCase, PublishedTarget } from '../family.ts';

const SHELL: PublishedTarget = { host: 'shell.corp.example', port: 22 };
const FILE_BYTES = 4 * 1024 * 1024;

/** OpenSSH as an administrator has it: the host's own name, port 22, and its key in known_hosts under that name. */
export const startShell = async (
  t: Closer,
  network: PrivateNetwork,
): Promise<{ targets: Record<string, PublishedTarget>; cases: DriverCase[] }> => {
  const sshd = await startSshd(t, { address: network.addressOf(SHELL.host), port: SHELL.port });
  const here = temporaryDirectory(t, 'ssh-files');
  const file = (name: string): string => join(here, name);
  const there = file('there');
  mkdirSync(there);
  const bytes = randomBytes(FILE_BYTES);
  const digest = createHash('sha256').update(bytes).digest('hex');
  writeFileSync(file('sent'), bytes);
  writeFileSync(file('known_hosts'), `${SHELL.host} ${sshd.hostKey}\n`);
  writeFileSync(
    file('config'),
    [
      `Host ${SHELL.host}`,
      `  User ${sshd.user}`,
      `  IdentityFile ${sshd.keyFile}`,
      `  UserKnownHostsFile ${file('known_hosts')}`,
      '  GlobalKnownHostsFile none',
      '  StrictHostKeyChecking yes',
      '  BatchMode yes',
      '',
    ].join('\n'),
  );
  const program = (name: string): string => findProgram(name) ?? name;
  const asUsual = ['-q', '-F', file('config')];
  const copy = (from: string, to: string): string =>
    [program('scp'), ...asUsual, from, to].map((word) => `'${word}'`).join(' ');
  return {
    targets: { shell: SHELL },
    cases: [
      {
        name: 'ssh, OpenSSH, the key of the own name, 4 MiB to its input',
        connection: 'shell',
        program: 'sh',
        args: [
          '-c',
          `'${program('ssh')}' -F '${file('config')}' -T ${SHELL.host} 'sha256sum; echo to stderr >&2; exit 7' <'${file('sent')}' || echo exit $?`,
        ],
        prints: `${digest}  -\nexit 7\n`,
        maxStreams: 1,
      },
      {
        name: 'scp, OpenSSH, 4 MiB there and back',
        connection: 'shell',
        program: 'sh',
        args: [
          '-c',
          [
            copy(file('sent'), `${SHELL.host}:${there}/scp`),
            copy(`${SHELL.host}:${there}/scp`, file('scp')),
            `sha256sum <'${there}/scp'`,
            `sha256sum <'${file('scp')}'`,
            `rm '${there}/scp' '${file('scp')}'`,
          ].join(' && '),
        ],
        prints: `${digest}  -\n${digest}  -\n`,
        maxStreams: 2,
      },
      {
        name: 'sftp, OpenSSH, 4 MiB there and back in one session',
        connection: 'shell',
        program: program('sftp'),
        args: [...asUsual, '-b', '-', SHELL.host],
        input: [
          ...[`-rm ${there}/sftp`, `put ${file('sent')} ${there}/sftp`, `get ${there}/sftp ${file('sftp')}`],
          ...[`!sha256sum <'${there}/sftp'`, `!sha256sum <'${file('sftp')}'`, `!rm '${file('sftp')}'`, ''],
        ].join('\n'),
        prints: new RegExp(`^(?:sftp>.*\n)+${digest}  -\n(?:sftp>.*\n)+${digest}  -\n(?:sftp>.*\n)+$`),
        maxStreams: 1,
      },
    ],
  };
};
