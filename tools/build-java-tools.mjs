// Fetches the JDBC drivers of tools/java/pom.xml with Maven into .tools/java, each compared with tools/java/SHA256SUMS, and
// compiles test/drivers/java into .tools/java/classes. Needs a JDK of 17 or newer and Maven; seconds, and again for what has
// changed. With --compile it fetches nothing, and fails where drivers are not there or others.
//   node tools/build-java-tools.mjs [--compile]
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { digestOf, makeFolder } from './make-folder.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const wanted = join(root, 'tools/java');
const sources = join(root, 'test/drivers/java');
const jars = join(root, '.tools/java/jars');
const classes = join(root, '.tools/java/classes');

const fail = (text) => {
  console.error(`build-java-tools: ${text}`);
  process.exit(3);
};

const run = (program, args) => {
  const { status, error } = spawnSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  if (status === 0) return;
  console.error(
    'it needs a JDK of 17 or newer and Maven (Debian: apt-get install default-jdk-headless maven)',
  );
  fail(`${program} ${args.at(-1)} failed${error ? `: ${error.message}` : ''}`);
};

const pom = join(wanted, 'pom.xml');
const sums = readFileSync(join(wanted, 'SHA256SUMS'), 'utf8');
makeFolder(jars, digestOf([readFileSync(pom), sums]), (fresh) => {
  if (process.argv.includes('--compile'))
    fail('the drivers are not there, or others: run it without --compile');
  console.error('fetching the JDBC drivers of the tests, half a minute');
  run('mvn', ['-q', '-B', '-f', pom, `-DoutputDirectory=${fresh}`, 'dependency:copy-dependencies']);
  const found = readdirSync(fresh)
    .sort()
    .map((name) => `${digestOf([readFileSync(join(fresh, name))])}  ${name}\n`)
    .join('');
  if (found !== sums) fail(`not what tools/java/SHA256SUMS says, but:\n${found}`);
});

const files = readdirSync(sources)
  .filter((name) => name.endsWith('.java'))
  .sort()
  .map((name) => join(sources, name));
makeFolder(classes, digestOf(files.flatMap((file) => [file, readFileSync(file)])), (fresh) => {
  run('javac', ['-Xlint:all', '-Werror', '--release', '17', '-d', fresh, ...files]);
});
