// Installs what tests need of Python into .tools/python, from the exact versions in tools/python/requirements.txt. Needs
// Python 3.10 or newer with venv; half a minute, and again when that file has changed.
//   node tools/build-python-tools.mjs
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const wanted = join(root, 'tools/python/requirements.txt');
const directory = join(root, '.tools/python');
const installed = join(directory, 'requirements.txt');

const run = (program, args) => {
  const { status, error } = spawnSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  if (status === 0) return;
  console.error(`build-python-tools: ${program} ${args[0]} failed${error ? `: ${error.message}` : ''}`);
  console.error('it needs Python 3.10 or newer with venv (Debian: apt-get install python3-venv)');
  rmSync(directory, { recursive: true, force: true });
  process.exit(3);
};

if (!existsSync(installed) || readFileSync(installed, 'utf8') !== readFileSync(wanted, 'utf8')) {
  console.error('installing the Python tools of the tests, half a minute');
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(join(root, '.tools'), { recursive: true });
  run('python3', ['-m', 'venv', directory]);
  run(join(directory, 'bin/pip'), ['install', '--quiet', '--disable-pip-version-check', '-r', wanted]);
  copyFileSync(wanted, installed);
}
