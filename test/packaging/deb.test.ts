import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { missingPrograms, projectRoot, runCommand } from '../support/command.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const { version } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
  version: string;
};
/** 2100-01-01: dpkg-deb itself takes later times down to it, and leaves earlier ones as they are. */
const EPOCH = '4102444800';
/** Of everything here, also on a machine that does much else. */
const DEADLINE_MS = 600_000;

const needs = { 'dpkg-deb': 'dpkg', unshare: 'util-linux', useradd: 'passwd', 'systemd-analyze': 'systemd' };

/** The arguments of every COPY in the container file: from the checkout, and from its first stage. */
const copies = (): { readonly checkout: string[]; readonly stage: string[] } => {
  const text = readFileSync(join(projectRoot, 'packaging/Containerfile'), 'utf8');
  const all = [...text.matchAll(/^COPY (--from=build )?(.+) \S+$/gm)];
  const sources = (isFromStage: boolean): string[] =>
    all
      .filter(([, from]) => (from !== undefined) === isFromStage)
      .flatMap(([, , list = '']) => list.split(' '));
  return { checkout: sources(false), stage: sources(true) };
};

/** A checkout as the container file's first stage has it: what it copies, and what npm installs. */
const checkoutOfContainer = (folder: string): string => {
  mkdirSync(folder);
  for (const path of copies().checkout)
    cpSync(join(projectRoot, path), join(folder, path), { recursive: true });
  symlinkSync(join(projectRoot, 'node_modules'), join(folder, 'node_modules'));
  return folder;
};

const buildDeb = async (cwd: string, file: string, umask: string, zone: string): Promise<string> => {
  const built = await runCommand(
    'sh',
    ['-c', `umask ${umask}; exec "$0" tools/build-deb.mjs -o "$1"`, process.execPath, file],
    { cwd, env: { TZ: zone, SOURCE_DATE_EPOCH: EPOCH }, deadlineMs: DEADLINE_MS },
  );
  assert.equal(built.code, 0, built.stderr);
  return createHash('sha256').update(readFileSync(file)).digest('hex');
};

test('the Debian package is the same bytes each time, also from what the container file copies, and works from install to purge', async (t) => {
  const missing = missingPrograms({ ...needs, man: 'man-db' });
  if (missing !== false || process.getuid?.() !== 0) {
    t.skip(missing === false ? 'mounts an overlay: root alone may' : missing);
    return;
  }
  const folder = temporaryDirectory(t, 'deb');
  const deb = join(folder, 'one.deb');
  const [one, two] = await Promise.all([
    buildDeb(projectRoot, deb, '022', 'UTC'),
    buildDeb(checkoutOfContainer(join(folder, 'checkout')), join(folder, 'two.deb'), '077', 'Asia/Tokyo'),
  ]);
  assert.equal(one, two);
  const { stdout: listed } = await runCommand('dpkg-deb', ['-c', deb]);
  for (const path of copies().stage) {
    const inPackage = path.replace('/package/', './');
    assert.ok(listed.includes(` ${inPackage}/\n`), path);
  }

  const script = join(projectRoot, 'test/packaging/install-in-overlay.sh');
  const run = await runCommand('unshare', ['--mount', 'bash', script, deb, process.execPath], {
    deadlineMs: DEADLINE_MS,
  });
  assert.equal(run.code, 0, `${run.stdout}\n${run.stderr}`);
  const said = Object.fromEntries(
    run.stdout
      .trimEnd()
      .split('\n')
      .map((line) => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2).trim()]),
  );
  assert.deepEqual(said, {
    version,
    help: 'Usage: sallyport [options] [command]',
    user: '/var/lib/sallyport/agent:/usr/sbin/nologin',
    empty: 'sallyport: 1 problem in the configuration (ERR_CONFIG_INVALID)',
    policy: '{',
    postgres: said.postgres,
    manual: '/usr/share/man/man1/sallyport.1.gz',
    completion: 'install',
    units: '',
    sums: '',
    again: 'name: agent-7',
    owner: 'same',
    removed:
      './etc/sallyport ./etc/sallyport/agent.yaml ./etc/sallyport/audit.key ./etc/sallyport/gateway.yaml ./etc/sallyport/relay.yaml ' +
      './var/lib/sallyport ./var/lib/sallyport/agent ./var/lib/sallyport/agent/evidence',
    purging: '2',
    purged:
      './etc/sallyport ./etc/sallyport/audit.key ./var/lib/sallyport ./var/lib/sallyport/agent ./var/lib/sallyport/agent/evidence',
    kept: 'sallyport-agent',
    nothing: '',
    users: '0',
  });
  assert.match(said.postgres ?? '', /--database/);
});
