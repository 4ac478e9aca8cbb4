// `npm test`: builds the tests (tools/build.mjs) and runs every file with node:test, and fails when fewer tests ran than the
// floor, because on Node 20 a directory or a glob finds nothing and exits 0.
//   node tools/run-tests.mjs [--no-skips] [PATH…]      PATH: a file, or a folder of test files (no floor then)
import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildTests } from './build.mjs';

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

/** What takes longest begins first, so that no single file is left at the end while the other core waits. */
const LONG = [/\/schemathesis/, /\/e2e\//, /\/up\./, /\/replay\//, /\/cli\//, /\/policy\//, /\/control\//];
const rank = (file) => {
  const found = LONG.findIndex((pattern) => pattern.test(file));
  return found === -1 ? LONG.length : found;
};

const files = (paths.length > 0 ? paths : [join(root, 'test')])
  .flatMap(testFiles)
  .sort()
  .sort((a, b) => rank(a) - rank(b));
if (files.length === 0) {
  console.error('run-tests: no test files found');
  process.exit(1);
}

const output = await buildTests();
const builtFile = (file) => join(output, relative(join(root, 'test'), resolve(file)).replace(/\.ts$/, '.js'));

/**
 * A folder in memory, of this run alone. Undefined where there is no such file system with enough room.
 * - TEST_MEMORY_FOLDER: data of Postgres servers that may lose them anyhow (test/support/postgres.ts). On a disk, making
 *   their files is most of what they cost.
 * - NODE_COMPILE_CACHE (Node 22 and newer): what one process has compiled, the next reads. Node compares the source.
 */
const makeMemoryFolder = () => {
  const TMPFS = 0x01021994;
  const ROOM_BYTES = 2 * 1024 ** 3;
  try {
    const { type, bavail, bsize } = statfsSync('/dev/shm');
    if (type !== TMPFS || bavail * bsize < ROOM_BYTES) return undefined;
    const folder = mkdtempSync('/dev/shm/sallyport-tests-');
    chmodSync(folder, 0o711);
    return folder;
  } catch {
    return undefined;
  }
};
const memoryFolder = makeMemoryFolder();
process.on('exit', () => {
  if (memoryFolder !== undefined) rmSync(memoryFolder, { recursive: true, force: true });
});

/** Two files a core: most of them wait for processes that they started. */
const CONCURRENCY = `--test-concurrency=${availableParallelism() * 2}`;

const REPORTERS = ['spec', join(root, 'tools/test-files.mjs')].flatMap((reporter) => [
  `--test-reporter=${reporter}`,
  '--test-reporter-destination=stdout',
]);

const child = spawn(
  process.execPath,
  ['--enable-source-maps', '--test', ...REPORTERS, CONCURRENCY, ...files.map(builtFile)],
  {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      ...(memoryFolder === undefined
        ? {}
        : { TEST_MEMORY_FOLDER: memoryFolder, NODE_COMPILE_CACHE: join(memoryFolder, 'compiled') }),
    },
  },
);
// The files end their servers before the folder of those goes.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
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
