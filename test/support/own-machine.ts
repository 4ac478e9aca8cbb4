import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CommandResult, runCommand } from './command.ts';
import { type Closer, temporaryDirectory } from './temporary.ts';

/** What a machine has before anybody wrote names into it: with no newline at its end. */
const HOSTS = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n# the last line has no end';

/** The private network that such a machine is in: `PRIVATE_PREFIX.1` to `PRIVATE_PREFIX.PRIVATE_HOSTS`. */
export const PRIVATE_PREFIX = '10.77.0';
export const PRIVATE_HOSTS = 15;

/** Nothing but loopback, with IPv6 and a way out of it; hosts file and resolv.conf are mounted, as in a container. */
const ENTER = `
ip link set lo up &&
for n in $(seq 1 ${PRIVATE_HOSTS}); do ip address add ${PRIVATE_PREFIX}.$n/32 dev lo || exit; done &&
ip address add fd00:77::1/128 dev lo &&
ip -6 route add default dev lo &&
mount --bind "$1/hosts" /etc/hosts &&
mount --bind "$1/resolv.conf" /etc/resolv.conf &&
unset NODE_TEST_CONTEXT &&
exec "$2" --enable-source-maps --test --test-reporter=tap "$3"`;

/**
 * Runs a file of tests on a machine of its own: network and mounts. Its names come from a DNS server that it starts
 * itself at 127.0.0.1:53. Needs root, as CI has it.
 *
 * @param inside the file, as built
 */
export const runOnOwnMachine = (
  t: Closer,
  inside: string,
  options: { readonly deadlineMs: number; readonly env?: Readonly<Record<string, string>> },
): Promise<CommandResult> => {
  const directory = join(temporaryDirectory(t, 'machine'), 'etc');
  mkdirSync(directory);
  writeFileSync(join(directory, 'hosts'), HOSTS);
  writeFileSync(join(directory, 'resolv.conf'), 'nameserver 127.0.0.1\n');
  const args = ['--mount', '--net', '--', 'sh', '-c', ENTER, 'sh', directory, process.execPath, inside];
  return runCommand('unshare', args, options);
};
