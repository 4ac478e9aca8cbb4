// Builds OPA (and with --regal Regal) into .tools from the versions pinned in tools/opa/go.mod and
// tools/regal/go.mod. Needs Go 1.26 or newer; about a minute each, once.
//   node tools/build-policy-tools.mjs [--regal] [--force]
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const out = join(root, '.tools');
const force = process.argv.includes('--force');

const build = (name, pkg, flags) => {
  const file = join(out, name);
  if (existsSync(file) && !force) return;
  mkdirSync(out, { recursive: true });
  const temporary = `${file}.${process.pid}`;
  console.error(`building ${name} with go, about a minute`);
  const { status, error } = spawnSync('go', ['build', ...flags, '-trimpath', '-o', temporary, pkg], {
    cwd: join(root, 'tools', name),
    env: { ...process.env, CGO_ENABLED: '0' },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status !== 0) {
    console.error(`build-policy-tools: go build of ${name} failed${error ? `: ${error.message}` : ''}`);
    process.exit(3);
  }
  renameSync(temporary, file);
};

build('opa', 'github.com/open-policy-agent/opa', []);
if (process.argv.includes('--regal')) build('regal', 'github.com/open-policy-agent/regal', ['-mod=mod']);
