import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  buildBundle,
  checkPolicies,
  diagnosticText,
  type SkeletonConnection,
  testPolicies,
  writePolicySkeleton,
} from '../../src/policy/index.ts';
import { readBundle } from '../../src/policy/bundle/bundle.ts';
import { bin, sallyport, scratch, testOpa, write } from './support.ts';

const of = (name: string, host = `${name}.example`, port = 80): SkeletonConnection => ({
  name,
  target: { host, port },
});
/** Names that Rego writes differently, and hosts that are addresses, one of them one that is never dialled. */
const CONNECTIONS = [
  of('web'),
  of('orders-db'),
  of('in'),
  of('1st'),
  of('ssh', 'ssh.example', 22),
  of('six', '2001:db8::5', 443),
  of('local', '127.0.0.1', 5432),
  of('metadata', '169.254.169.254'),
  // OPA takes a file named *_test.rego for tests, which no bundle has.
  of('orders'),
  of('orders-test'),
  of('test'),
];

test('the skeleton passes its own check, its tests, and builds', async (t) => {
  const directory = join(scratch(t), 'policy');
  const opa = await testOpa();
  writePolicySkeleton(directory, CONNECTIONS);
  assert.ok(!existsSync(join(directory, 'sallyport/allow/development.rego')));
  const orders = readFileSync(join(directory, 'sallyport/allow/orders_db.rego'), 'utf8');
  assert.match(orders, /publish\["orders-db"\]/);
  assert.deepEqual((await checkPolicies(directory, opa)).map(diagnosticText), []);
  const { ok, tests, vectors } = await testPolicies(directory, opa);
  assert.ok(ok, JSON.stringify({ tests, vectors: vectors.filter((vector) => !vector.ok) }));
  assert.equal(tests.passed, 4 * CONNECTIONS.length);
  assert.equal(vectors.length, 7 + 4 * CONNECTIONS.length);
  assert.ok(tests.coverage.every(({ percent }) => percent === 100));
  const built = await buildBundle(directory, undefined, { opa });
  assert.equal(built.rules, 2 * CONNECTIONS.length);
  assert.equal(built.vectors, 7 + 4 * CONNECTIONS.length);
  assert.equal(built.sequence, 1);
});

test('nothing is overwritten, and a fresh repository is as good as an empty directory', (t) => {
  const directory = scratch(t);
  mkdirSync(join(directory, '.git'));
  writePolicySkeleton(directory, [of('web')]);
  assert.throws(() => writePolicySkeleton(directory, [of('web')]), { code: 'ERR_POLICY_SOURCE' });
  const other = scratch(t);
  write(other, { 'notes.txt': 'mine' });
  const refused = sallyport(['policy', 'new', other]);
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /notes\.txt is there already/);
  assert.ok(!existsSync(join(other, '.manifest')));
});

test('policy new writes what it says, and its ci recipe finds what is wrong', async (t) => {
  const directory = join(scratch(t), 'policy');
  const env = { SALLYPORT_OPA: await testOpa() };
  const made = sallyport(['--json', 'policy', 'new', directory, '--publish', 'web=web.example:443'], env);
  assert.equal(made.status, 0, made.stderr);
  assert.deepEqual(JSON.parse(made.stdout), { directory, connections: ['web'] });
  const bundle = join(directory, 'bundle.tar.gz');
  const ci = (): number | null =>
    spawnSync(join(directory, 'ci.sh'), { env: { ...process.env, ...env, SALLYPORT: bin } }).status;
  assert.equal(ci(), 0);
  assert.equal((await readBundle(readFileSync(bundle))).catalog.length, 2);
  // As init lays it out: the bundle that runs and the key beside the directory.
  cpSync(bundle, join(directory, '../bundle.tar.gz'));
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  writeFileSync(
    join(directory, '../policy-signing.key'),
    privateKey.export({ type: 'pkcs8', format: 'pem' }),
  );
  assert.equal(ci(), 0);
  const next = await readBundle(readFileSync(bundle));
  assert.deepEqual([next.sequence, next.signed], [2, true]);
  const vectors = join(directory, 'vectors/web.yaml');
  writeFileSync(vectors, readFileSync(vectors, 'utf8').replace('allow: true', 'allow: false'));
  assert.equal(ci(), 1);
  assert.equal(sallyport(['policy', 'new', join(directory, 'x'), '--publish', 'web']).status, 2);
});
