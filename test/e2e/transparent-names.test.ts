import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../support/command.ts';
import { temporaryDirectory } from '../support/temporary.ts';

/** What a machine has before anybody wrote names into it: with no newline at its end. */
const HOSTS = '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n# the last line has no end';

const DEADLINE_MS = 300_000;

/**
 * A machine of its own: nothing but loopback, with IPv6 and a way out of it, and a hosts file and resolv.conf that are mounted, as in a container. Needs
 * root, as CI has it: without, the test fails.
 */
const ENTER = `
ip link set lo up &&
ip address add 10.77.0.1/32 dev lo &&
ip address add 10.77.0.2/32 dev lo &&
ip address add fd00:77::1/128 dev lo &&
ip -6 route add default dev lo &&
mount --bind "$1/hosts" /etc/hosts &&
mount --bind "$1/resolv.conf" /etc/resolv.conf &&
unset NODE_TEST_CONTEXT &&
exec "$2" --enable-source-maps --test --test-reporter=tap "$3"`;

test('applications keep host name, port and certificate, on a machine that the agent shares', {
  timeout: DEADLINE_MS,
}, async (t) => {
  const directory = temporaryDirectory(t, 'names');
  writeFileSync(join(directory, 'hosts'), HOSTS);
  writeFileSync(join(directory, 'resolv.conf'), 'nameserver 127.0.0.1\n');
  const inside = fileURLToPath(new URL('./transparent-names-inside.js', import.meta.url));
  const args = ['--mount', '--net', '--', 'sh', '-c', ENTER, 'sh', directory, process.execPath, inside];
  const { code, stdout, stderr } = await runCommand('unshare', args, { deadlineMs: DEADLINE_MS });
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  assert.match(stdout, /^# pass 1$/m);
});
