import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { writePolicySkeleton } from '../../src/cli/init/policy-skeleton.ts';
import { buildBundle, checkPolicies, findOpa } from '../../src/policy/index.ts';

const NAMES = ['web', 'orders-db', 'in', '1st'];

test('the skeleton of `init` passes its own check, and builds', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-skeleton-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const policy = join(directory, 'policy');
  writePolicySkeleton(
    policy,
    NAMES.map((name) => ({ name, target: { host: `${name}.example`, port: 80 } })),
  );
  assert.ok(!existsSync(join(policy, 'sallyport', 'allow', 'development.rego')));
  assert.match(
    readFileSync(join(policy, 'sallyport', 'allow', 'orders_db.rego'), 'utf8'),
    /publish\["orders-db"\]/,
  );
  const opa = await findOpa();
  assert.deepEqual(await checkPolicies(policy, opa), []);
  const built = await buildBundle(policy, undefined, { opa });
  assert.equal(built.rules, 2 * NAMES.length);
});
