// `npm test`: runs every test file with node:test through tsx, and fails when fewer tests ran than the
// floor, because on Node 20 a directory or a glob finds nothing and exits 0.
//   node tools/run-tests.mjs [--no-skips] [PATH…]      PATH: a file, or a folder of test files (no floor then)
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const FLOOR = Number(readFileSync(join(root, 'test/FLOOR'), 'utf8').trim());
const args = process.argv.slice(2);
const noSkips = args.includes('--no-skips');
const paths = args.filter((arg) => !arg.startsWith('--'));

const testFiles = (path) =>
  statSync(path).isDirectory()
    ? readdirSync(path, { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.test.ts'))
        .map((name) => join(path, name))
    : [path];

const files = (paths.length > 0 ? paths : [join(root, 'test')]).flatMap(testFiles).sort();
if (files.length === 0) {
  console.error('run-tests: no test files found');
  process.exit(1);
}

const child = spawn(
  process.execPath,
  ['--import', 'tsx', '--test', '--test-reporter=spec', '--test-concurrency=3', ...files],
  { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] },
);
let tail = '';
child.stdout.on('data', (chunk) => {
  process.stdout.write(chunk);
  tail = (tail + chunk.toString('utf8')).slice(-64 * 1024);
});
child.on('close', (code) => {
  const count = (word) => Number(new RegExp(`^ℹ ${word} (\\d+)$`, 'm').exec(tail)?.[1] ?? Number.NaN);
  const passed = count('pass');
  const failed = count('fail');
  const skipped = count('skipped');
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  if (code !== 0) process.exit(code ?? 1);
  if (paths.length === 0 && !(passed >= FLOOR)) {
    console.error(`run-tests: ${passed} tests passed, fewer than the floor of ${FLOOR} in test/FLOOR`);
    process.exit(1);
  }
  if (noSkips && skipped !== 0) {
    console.error(`run-tests: ${skipped} tests were skipped; CI installs what they need`);
    process.exit(1);
  }
});
