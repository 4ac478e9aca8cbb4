import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { testOpa } from '../policy/support.ts';
import { sallyport } from '../support/command.ts';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, dial, echo, readToEnd } from '../support/sockets.ts';

test('what init makes requires signatures; a change is built, signed, enforced, and rolled back', async (t) => {
  await testOpa();
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  const { directory } = deployment;
  const address = deployment.listenOf('shop');
  await deployment.startAll();
  assert.equal(await askOnce(t, address, 'by the first bundle'), 'by the first bundle');

  const policy = async (...args: string[]): Promise<Record<string, unknown>> => {
    const done = await sallyport(['--json', 'policy', ...args], { cwd: directory });
    assert.equal(done.code, 0, done.stderr + done.stdout);
    return JSON.parse(done.stdout) as Record<string, unknown>;
  };
  const sign = [
    'sign',
    'next.tar.gz',
    '-o',
    'bundle.tar.gz',
    '--key',
    'policy-signing.key',
    '--key-id',
    'policy-1',
  ];
  const untilActive = (sequence: number): Promise<boolean> =>
    eventually(`sequence ${sequence} is active`, async () => {
      const { active } = (await policy('status', '-c', 'agent.yaml')) as {
        active: { sequence: number; signedBy: string };
      };
      assert.deepEqual([active.sequence, active.signedBy], [sequence, 'policy-1']);
      return true;
    });
  await untilActive(1);
  writeFileSync(join(directory, 'first.tar.gz'), readFileSync(join(directory, 'bundle.tar.gz')));

  // The rule and what its vectors expect: a bundle that fails its own vectors would never be activated.
  for (const name of ['sallyport/allow/shop.rego', 'vectors/shop.yaml']) {
    const file = join(directory, 'policy', name);
    writeFileSync(file, readFileSync(file, 'utf8').replaceAll('defaultSender', 'somebody-else'));
  }
  await policy('build', 'policy', '-o', 'next.tar.gz', '--after', 'bundle.tar.gz');
  await policy(...sign);
  await untilActive(2);
  const refused = await eventually('streams are refused', async () => {
    const end = await readToEnd(dial(t, address));
    return end.bytes.length === 0 && end.how !== 'fin' ? end : undefined;
  });
  assert.notEqual(refused.how, 'fin');

  await policy('rollback', 'first.tar.gz', '--after', 'bundle.tar.gz', '-o', 'next.tar.gz');
  await policy(...sign);
  await untilActive(3);
  assert.equal(await eventually('streams work again', () => askOnce(t, address, 'again')), 'again');
});
