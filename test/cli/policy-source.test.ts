import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { PolicyChoice } from '../../src/cli/up/options.ts';
import { openPolicySource, type PolicySource } from '../../src/cli/up/policy-source.ts';
import { writePolicySkeleton } from '../../src/policy/index.ts';
import { systemClock } from '../../src/runtime/index.ts';

const DEADLINE_MS = 30_000;
const WEB = { name: 'web', target: { host: 'web.example', port: 80 } };

interface Opened {
  readonly source: PolicySource;
  readonly sequences: readonly number[];
  /** Resolves with the next thing it says. */
  readonly said: () => Promise<string>;
}

const directoryOf = (t: TestContext): string => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-source-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
};

const open = async (
  t: TestContext,
  directory: string,
  choice: PolicyChoice,
  before = { sequence: 0, digest: '' },
): Promise<Opened & { digest: string }> => {
  const sequences: number[] = [];
  const notes: string[] = [];
  let digest = '';
  let wake: () => void = () => undefined;
  const source = await openPolicySource({
    choice,
    bundleFile: join(directory, 'bundle.tar.gz'),
    connections: [{ name: WEB.name, ...WEB.target }],
    forbidden: [],
    before,
    clock: systemClock,
    onBuilt: (built) => {
      sequences.push(built.sequence);
      ({ digest } = built);
    },
    note: (text) => {
      notes.push(text);
      wake();
    },
  });
  t.after(() => source.close());
  return {
    source,
    sequences,
    digest,
    said: () =>
      new Promise((resolve, reject) => {
        const deadline = setTimeout(() => reject(new Error('it says nothing')), DEADLINE_MS);
        const take = (): void => {
          const first = notes.shift();
          if (first === undefined) return;
          clearTimeout(deadline);
          wake = () => undefined;
          resolve(first);
        };
        wake = take;
        take();
      }),
  };
};

test('a generated bundle keeps its sequence until what it allows changes', async (t) => {
  const directory = directoryOf(t);
  const first = await open(t, directory, { kind: 'generated' });
  assert.deepEqual(first.sequences, [1]);
  const bytes = readFileSync(first.source.bundleFile);
  const again = await open(t, directory, { kind: 'generated' }, { sequence: 1, digest: first.digest });
  assert.deepEqual(again.sequences, [1]);
  assert.deepEqual(readFileSync(again.source.bundleFile), bytes);
  const other = await open(t, directory, { kind: 'generated' }, { sequence: 7, digest: 'of something else' });
  assert.deepEqual(other.sequences, [8]);
});

test('a directory is compiled after each change; what does not compile changes nothing', async (t) => {
  const directory = directoryOf(t);
  const policy = join(directory, 'policy');
  writePolicySkeleton(policy, [WEB]);
  const { source, sequences, said } = await open(t, directory, { kind: 'directory', directory: policy });
  assert.deepEqual(sequences, [1]);
  const good = readFileSync(source.bundleFile);
  const file = join(policy, 'sallyport', 'allow', 'web.rego');
  const text = readFileSync(file, 'utf8');

  appendFileSync(file, 'this is no rego\n');
  assert.match(await said(), /does not compile, the old one stays/);
  assert.deepEqual(readFileSync(source.bundleFile), good);

  // As editors do it: another file in its place.
  writeFileSync(`${file}.new`, text.replace('"defaultSender"', '"orders-app"'));
  renameSync(`${file}.new`, file);
  assert.match(await said(), /compiled, sequence 2/);
  assert.notDeepEqual(readFileSync(source.bundleFile), good);

  appendFileSync(file, '# once more, in the file that took its place\n');
  assert.match(await said(), /compiled, sequence 3/);
  assert.deepEqual(sequences, [1, 2, 3]);
});

test('a bundle that is not there is refused before anything starts', async (t) => {
  const directory = directoryOf(t);
  await assert.rejects(open(t, directory, { kind: 'bundle', file: join(directory, 'none') }), {
    code: 'ERR_CLI_USAGE',
  });
});
