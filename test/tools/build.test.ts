import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { temporaryDirectory } from '../support/temporary.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('the program always runs what the sources say', (t) => {
  const checkout = temporaryDirectory(t, 'build');
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(checkout, path)), { recursive: true });
    writeFileSync(join(checkout, path), text);
  };
  for (const path of ['bin/sallyport', 'tools/build.mjs']) cpSync(join(root, path), join(checkout, path));
  symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
  write('package.json', '{"type":"module"}');
  write('src/part/answer.ts', 'export const answer: number = 42;');
  write(
    'src/cli/main.ts',
    `import { answer } from '../part/answer.ts';
     export const main = (argv: readonly string[]): void => console.log(argv.at(-1), answer);`,
  );
  const run = (): string =>
    execFileSync(process.execPath, [join(checkout, 'bin/sallyport'), 'answer'], {
      encoding: 'utf8',
      stdio: 'pipe',
    }).trim();
  const built = join(checkout, 'dist/part/answer.js');

  assert.equal(run(), 'answer 42');
  const { mtimeMs } = statSync(built);
  assert.equal(run(), 'answer 42');
  assert.equal(statSync(built).mtimeMs, mtimeMs, 'an unchanged source was built again');

  write('src/part/answer.ts', 'export const answer: number = 43;');
  assert.equal(run(), 'answer 43');

  write('src/cli/main.ts', 'export const main = (): void => console.log("alone");');
  rmSync(join(checkout, 'src/part'), { recursive: true });
  assert.equal(run(), 'alone');
  assert.equal(existsSync(built), false, 'the output of a removed source stays');

  write('src/cli/main.ts', 'export const main = (: void => 1;');
  assert.throws(run, /cannot build/);
  write('src/cli/main.ts', 'export const main = (): void => console.log("again");');
  assert.equal(run(), 'again');

  // As an installed package: no sources, no tool.
  rmSync(join(checkout, 'src'), { recursive: true });
  rmSync(join(checkout, 'tools'), { recursive: true });
  assert.equal(run(), 'again');
  assert.match(readFileSync(join(checkout, 'dist/built-from'), 'utf8'), /^[0-9a-f]{64}$/);
});

test('several processes may build at the same time', async (t) => {
  const checkout = temporaryDirectory(t, 'build');
  for (const path of ['bin', 'tools/build.mjs', 'src/runtime', 'src/identity'])
    cpSync(join(root, path), join(checkout, path), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
  writeFileSync(join(checkout, 'package.json'), '{"type":"module"}');
  mkdirSync(join(checkout, 'src/cli'));
  writeFileSync(join(checkout, 'src/cli/main.ts'), 'export const main = (): void => console.log("built");');
  const run = promisify(execFile);
  const all = Array.from({ length: 6 }, () => run(process.execPath, [join(checkout, 'bin/sallyport')]));
  assert.deepEqual(
    (await Promise.all(all)).map(({ stdout }) => stdout),
    Array.from({ length: 6 }, () => 'built\n'),
  );
});

test('the tests that run are always of these very sources', (t) => {
  const checkout = temporaryDirectory(t, 'build');
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(checkout, path)), { recursive: true });
    writeFileSync(join(checkout, path), text);
  };
  cpSync(join(root, 'tools/build.mjs'), join(checkout, 'tools/build.mjs'));
  symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
  write('package.json', '{"type":"module"}');
  write('src/part/answer.ts', 'export const answer: number = 42;');
  write('bench/pattern.ts', 'export const pattern: string = "pattern";');
  write('test/support/word.ts', 'export const word: string = "word";');
  write('test/fixtures/text.txt', 'text');
  const main = 'test/part/answer.test.ts';
  const text = `
    import { readFileSync } from 'node:fs';
    import { pattern } from '../../bench/pattern.ts';
    import { answer } from '../../src/part/answer.ts';
    import { word } from '../support/word.ts';
    import { own } from './own.ts';
    const file: URL = new URL('../fixtures/text.txt', import.meta.url);
    const { own: again } = await import('./own.ts');
    console.log(answer, pattern, word, own === again, readFileSync(file, 'utf8'));`;
  write(main, text);
  write('test/part/own.ts', 'export const own: object = {};');
  const build = (): string =>
    execFileSync(process.execPath, ['-e', "import('./tools/build.mjs').then((tool) => tool.buildTests())"], {
      cwd: checkout,
      encoding: 'utf8',
      stdio: 'pipe',
    });
  const built = join(checkout, 'dist-test/part/answer.test.js');
  const run = (): string => {
    build();
    return execFileSync(process.execPath, [built], { encoding: 'utf8', stdio: 'pipe' }).trim();
  };

  assert.equal(run(), '42 pattern word true text');
  const { mtimeMs } = statSync(built);
  write('src/part/answer.ts', 'export const answer: number = 43;');
  write('bench/pattern.ts', 'export const pattern: string = "dots";');
  write('test/support/word.ts', 'export const word: string = "noun";');
  write('test/fixtures/text.txt', 'prose');
  assert.equal(run(), '43 dots noun true prose');
  assert.notEqual(statSync(built).mtimeMs, mtimeMs, 'what it takes from the benchmarks is part of it');

  // Whatever somebody did to the output is undone.
  writeFileSync(built, 'console.log("stale")');
  writeFileSync(join(checkout, 'dist-test/support/word.js'), 'export const word = "stale";');
  assert.equal(run(), '43 dots noun true prose');

  rmSync(join(checkout, 'test/part/own.ts'));
  assert.throws(() => {
    run();
  }, /Cannot find module .*own\.js/);
  assert.equal(existsSync(join(checkout, 'dist-test/part/own.js')), false, 'a removed source stays');

  write('test/part/own.ts', 'export const own: = {};');
  assert.throws(build);
  write('test/part/own.ts', 'export const own = {};');
  write('bench/pattern.ts', "export { answer as pattern } from '../src/part/answer.ts';");
  assert.throws(build, /is not built and may not import/);
});
