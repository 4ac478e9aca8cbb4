import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  buildBundle,
  checkPolicies,
  diagnosticText,
  type SkeletonConnection,
  writePolicySkeleton,
} from '../../src/policy/index.ts';
import { sallyport, scratch, testOpa, write } from './support.ts';

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
];

test('the skeleton passes its own check, its tests, and builds', async (t) => {
  const directory = join(scratch(t), 'policy');
  const opa = await testOpa();
  writePolicySkeleton(directory, CONNECTIONS);
  assert.ok(!existsSync(join(directory, 'sallyport/allow/development.rego')));
  const orders = readFileSync(join(directory, 'sallyport/allow/orders_db.rego'), 'utf8');
  assert.match(orders, /publish\["orders-db"\]/);
  assert.deepEqual((await checkPolicies(directory, opa)).map(diagnosticText), []);
  const tested = spawnSync(opa, ['test', '.', '-b', '--ignore', 'vectors'], {
    cwd: directory,
    encoding: 'utf8',
  });
  assert.match(tested.stdout, new RegExp(`^PASS: ${String(4 * CONNECTIONS.length)}/`, 'm'), tested.stdout);
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

test('policy new writes what it says, and it is fit to check', async (t) => {
  const directory = join(scratch(t), 'policy');
  const env = { SALLYPORT_OPA: await testOpa() };
  const made = sallyport(['--json', 'policy', 'new', directory, '--publish', 'web=web.example:443'], env);
  assert.equal(made.status, 0, made.stderr);
  assert.deepEqual(JSON.parse(made.stdout), { directory, connections: ['web'] });
  assert.equal(sallyport(['policy', 'check', directory], env).status, 0);
  assert.equal(sallyport(['policy', 'new', join(directory, 'x'), '--publish', 'web']).status, 2);
});
