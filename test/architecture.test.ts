import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const require = createRequire(import.meta.url);
const run = promisify(execFile);

/** Only what is read of dependency-cruiser's JSON. */
interface Cruise {
  readonly summary: { readonly violations: readonly { from: string; to: string; rule: { name: string } }[] };
}

const FOLDERS = [
  'runtime',
  'protocol',
  'identity',
  'policy',
  'audit',
  'control',
  'relay',
  'agent',
  'gateway',
] as const;
const PACKAGES = ['pg', '@open-policy-agent/opa-wasm', 'jsonwebtoken', 'ws', 'express', 'helmet'];

/** A project of the same shape with every folder's entrance, and nothing wrong with it. */
const plant = (t: TestContext, files: Readonly<Record<string, string>>): string => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-architecture-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  cpSync(join(root, '.dependency-cruiser.cjs'), join(directory, '.dependency-cruiser.cjs'));
  cpSync(join(root, 'tsconfig.json'), join(directory, 'tsconfig.json'));
  const entrances = FOLDERS.map((folder) => [`src/${folder}/index.ts`, 'export const here = 1;\n']);
  const packages = PACKAGES.flatMap((name) => [
    [`node_modules/${name}/package.json`, JSON.stringify({ name, version: '1.0.0', main: 'index.js' })],
    [`node_modules/${name}/index.js`, 'module.exports = {};\n'],
  ]);
  const all: Record<string, string> = {
    'package.json': JSON.stringify({
      type: 'module',
      dependencies: Object.fromEntries(PACKAGES.map((name) => [name, '1.0.0'])),
    }),
    'test/support/thing.ts': 'export const thing = 1;\n',
    ...(Object.fromEntries([...entrances, ...packages]) as Record<string, string>),
    ...files,
  };
  for (const [path, content] of Object.entries(all)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), content);
  }
  return directory;
};

const cruise = async (directory: string): Promise<Cruise> => {
  const program = join(root, 'node_modules/.bin/depcruise');
  const args = [program, '--config', '.dependency-cruiser.cjs', '--output-type', 'json', 'src'];
  const { stdout } = await run(process.execPath, args, { cwd: directory, maxBuffer: 64 * 1024 * 1024 });
  return JSON.parse(stdout) as Cruise;
};

const violationsOf = (result: Cruise): string[] =>
  result.summary.violations.map(({ rule, from }) => `${rule.name} ${from}`).sort();

/** A folder that the first may not import. */
const foreignTo = { cli: '', runtime: 'protocol', protocol: 'identity', identity: 'protocol' } as const;

test('the architecture rules pass on a tree that keeps them', async (t) => {
  const directory = plant(t, {
    'src/relay/pipe.ts': "import { here } from '../protocol/index.ts';\nexport const pipe = here;\n",
    'src/audit/writer.ts': "import pg from 'pg';\nexport const writer = pg;\n",
    'src/cli/main.ts': "import { here } from '../relay/index.ts';\nexport const main = here;\n",
  });
  assert.deepEqual(violationsOf(await cruise(directory)), []);
});

test('every architecture rule fails on a violation planted for it', async (t) => {
  const files: Record<string, string> = {};
  const expected: string[] = [];
  const violate = (rule: string, file: string, content: string): void => {
    files[file] = content;
    expected.push(`${rule} ${file}`);
  };
  for (const folder of FOLDERS) {
    const foreign = folder in foreignTo ? foreignTo[folder as keyof typeof foreignTo] : 'gateway';
    const to = folder === 'gateway' ? 'agent' : foreign;
    violate(
      `${folder}-imports`,
      `src/${folder}/trespasser.ts`,
      `import { here } from '../${to}/index.ts';\nexport const trespasser = here;\n`,
    );
    files[`src/${folder}/inner.ts`] = 'export const inner = 1;\n';
    violate(
      `${folder}-entrance`,
      `src/cli/through-the-window-of-${folder}.ts`,
      `import { inner } from '../${folder}/inner.ts';\nexport const window = inner;\n`,
    );
  }
  const packageRules = { pg: 'pg', '@open-policy-agent/opa-wasm': 'opa-wasm', ws: 'ws' } as const;
  for (const [name, rule] of Object.entries({
    ...packageRules,
    jsonwebtoken: 'jsonwebtoken',
    express: 'express',
  })) {
    violate(
      `only-${rule}`,
      `src/cli/uses-${rule}.ts`,
      `import * as foreign from '${name}';\nexport const used = foreign;\n`,
    );
  }
  // A cycle is reported once, at the first of its files.
  files['src/cli/hen.ts'] = "import { egg } from './egg.ts';\nexport const hen = (): unknown => egg;\n";
  violate(
    'no-cycles',
    'src/cli/egg.ts',
    "import { hen } from './hen.ts';\nexport const egg = (): unknown => hen;\n",
  );
  violate(
    'no-test-in-src',
    'src/cli/tester.ts',
    "import { thing } from '../../test/support/thing.ts';\nexport const tester = thing;\n",
  );
  violate(
    'not-to-unresolvable',
    'src/cli/lost.ts',
    "import { gone } from './gone.ts';\nexport const lost = gone;\n",
  );

  const config = require(join(root, '.dependency-cruiser.cjs')) as { forbidden: { name: string }[] };
  const planted = new Set(expected.map((line) => line.split(' ')[0]));
  assert.deepEqual(
    config.forbidden.map(({ name }) => name).filter((name) => !planted.has(name)),
    [],
    'a rule without a planted violation',
  );
  const found = violationsOf(await cruise(plant(t, files)));
  assert.deepEqual(
    expected.filter((line) => !found.includes(line)),
    [],
    'rules that did not see the violation planted for them',
  );
});
