import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readArchive, writeArchive } from '../../src/policy/bundle/archive.ts';
import { runTrial } from '../../src/policy/tool/trial.ts';
import { inspectBundle } from '../../src/policy/index.ts';
import { systemClock } from '../../src/runtime/index.ts';
import { compileOrders, rawBundle, sallyport, scratch, testOpa, write } from './support.ts';

test('inspect says what a bundle is', async (t) => {
  const bytes = await compileOrders(t);
  const inspection = await inspectBundle(bytes);
  const { sha256, sequence, revision, roots, signatures, vectors, grants, builtins, problem } = inspection;
  assert.deepEqual(
    { sha256, sequence, revision, roots, signatures, vectors, grants, builtins, problem },
    {
      sha256: createHash('sha256').update(bytes).digest('hex'),
      sequence: 7,
      revision: 'orders',
      roots: ['sallyport'],
      signatures: [],
      vectors: 11,
      grants: 1,
      builtins: [],
      problem: undefined,
    },
  );
  assert.ok(inspection.files.some(({ name, bytes: size }) => name === 'policy.wasm' && size > 0));
  assert.deepEqual(inspection.catalog[1], {
    id: 'orders-app',
    action: 'stream',
    connection: 'orders-db',
    title: 'The order app writes in working hours',
    owner: 'payments@example.com',
    ticket: 'SEC-42',
    expires: '2027-03-31T00:00:00Z',
    file: 'sallyport/allow/orders.rego',
    line: 22,
  });
});

test('a signature of opa sign is shown with its key id, as a claim', async (t) => {
  const files = await readArchive(await compileOrders(t));
  const directory = scratch(t);
  write(directory, Object.fromEntries([...files].map(([name, content]) => [name, content.toString('utf8')])));
  writeFileSync(join(directory, 'policy.wasm'), files.get('policy.wasm') ?? '');
  const keys = scratch(t);
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  write(keys, {
    'key.pem': privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    'claims.json': '{"keyid": "team-1"}',
  });
  const args = ['--signing-key', join(keys, 'key.pem'), '--claims-file', join(keys, 'claims.json')];
  const run = spawnSync(await testOpa(), ['sign', ...args, '--bundle', '.', '-o', keys], {
    cwd: directory,
    encoding: 'utf8',
  });
  assert.equal(run.status, 0, run.stderr);
  const signed = new Map(files);
  signed.set('.signatures.json', readFileSync(join(keys, '.signatures.json')));
  const { signatures } = await inspectBundle(writeArchive(signed));
  assert.equal(signatures.length, 1);
  assert.deepEqual(signatures[0], {
    keyId: 'team-1',
    algorithm: 'RS256',
    files: signatures[0]?.files,
  });
  assert.ok(signatures[0].files >= files.size - 1);
  signed.set('.signatures.json', Buffer.from('{"signatures": ["a.b", "x"]}'));
  assert.deepEqual((await inspectBundle(writeArchive(signed))).signatures, [
    { keyId: undefined, algorithm: undefined, files: 0 },
    { keyId: undefined, algorithm: undefined, files: 0 },
  ]);
});

test('the command exits 1 for a bundle that no agent could start, 2 for a file that is not there', async (t) => {
  const directory = scratch(t);
  const decision = 'publish := time.now_ns()\n\nstream := time.now_ns()';
  const needy = join(directory, 'needy.tar.gz');
  writeFileSync(needy, await rawBundle(t, decision, { capabilities: false }));
  const shown = sallyport(['policy', 'inspect', needy]);
  assert.equal(shown.status, 1, shown.stderr);
  assert.match(shown.stdout, /^builtins {2}needs time\.now_ns: refused$/m);
  const good = join(directory, 'good.tar.gz');
  writeFileSync(good, await compileOrders(t));
  const json = sallyport(['--json', 'policy', 'inspect', good]);
  assert.equal(json.status, 0, json.stderr);
  assert.equal((JSON.parse(json.stdout) as { vectors: number }).vectors, 11);
  assert.match(sallyport(['policy', 'inspect', good]).stdout, /^orders-app +stream +orders-db +payments@/m);
  assert.equal(sallyport(['policy', 'inspect', join(directory, 'none')]).status, 2);
});

/** A module whose start function never returns. */
const ENDLESS = [
  [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
  [1, 4, 1, 0x60, 0, 0],
  [3, 2, 1, 0],
  [8, 1, 0],
  [10, 9, 1, 7, 0, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b],
].flat();
/** Enough for a thread to load its modules. */
const STARTED_MS = 3_000;

test('a bundle that never finishes starting is ended', async () => {
  const module = await WebAssembly.compile(new Uint8Array(ENDLESS));
  const clock = {
    ...systemClock,
    after: (_: number, call: () => void) => systemClock.after(STARTED_MS, call),
  };
  const job = { program: { module, dataText: '{}' }, entrypoint: 'x', inputs: [] };
  const result = await runTrial(job, clock);
  assert.equal(result.kind, 'failed');
});
