// Builds test/drivers/go, of the versions in its go.mod, into .tools/go-drivers. Needs Go 1.26 or newer; seconds, and again
// when its files have changed.
//   node tools/build-go-drivers.mjs
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { digestOf, makeFolder } from './make-folder.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const sources = join(root, 'test/drivers/go');

const files = readdirSync(sources)
  .filter((name) => /\.(go|mod|sum)$/.test(name))
  .sort();
const digest = digestOf(files.flatMap((name) => [name, readFileSync(join(sources, name))]));
makeFolder(join(root, '.tools/go-drivers'), digest, (fresh) => {
  const { status, error } = spawnSync('go', ['build', '-trimpath', '-o', join(fresh, 'drivers'), '.'], {
    cwd: sources,
    env: { ...process.env, CGO_ENABLED: '0' },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status === 0) return;
  console.error(`build-go-drivers: go build failed${error ? `: ${error.message}` : ''}`);
  process.exit(3);
});
