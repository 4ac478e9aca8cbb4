import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { listen } from '../support/sockets.ts';

interface Overview {
  readonly ok: boolean;
  readonly processes: readonly {
    name: string;
    ready: boolean;
    reasons: readonly string[];
    status: object | null;
  }[];
}

test('status -c tells why an agent is not ready: its key is revoked, and what to do', async (t) => {
  const target = await listen(t, (socket) => void socket.pipe(socket));
  const deployment = await createDeployment(t, { publish: { orders: `127.0.0.1:${target.port}` } });
  for (const role of ['relay', 'agent'] as const) {
    deployment.start(role);
    await deployment.ready(role);
  }
  const config = join(deployment.directory, 'agent.yaml');
  const status = async (): Promise<Overview> =>
    JSON.parse((await deployment.command('status', '-c', config, '--json')).stdout) as Overview;
  const before = await status();
  const told = before.processes.map(({ name, ready, reasons }) => ({ name, ready, reasons }));
  assert.deepEqual([before.ok, told], [true, [{ name: 'agent', ready: true, reasons: [] }]]);
  const plain = await deployment.command('status', '-c', config);
  assert.match(
    plain.stdout,
    /^ {2}logins: localhost:\d+ up\n {2}links: none\n {2}bundle: sequence \d+, revision .*, signed by /m,
  );
  assert.match(plain.stdout, /^ {2}audit: database ok, .*; spool ok, \d+ of \d+ MiB$/m);

  await deployment.command('key', 'revoke', '--auth-rule', 'orders/defaultListener', '--slot', 'primary');
  const after = await eventually('the agent says why it is not ready', async () => {
    const found = await status();
    return JSON.stringify(found).includes(' refuses its key ') ? found : undefined;
  });
  assert.equal(after.ok, false);
  const [agent] = after.processes;
  const reason = agent?.reasons.find((one) => one.startsWith('connection orders is not offered: '));
  assert.match(
    reason ?? '',
    / refuses its key of auth-rule defaultListener: key_revoked: .*`sallyport key rotate /,
  );
  const shown = await deployment.command('status', '-c', config);
  assert.equal(shown.code, 1);
  assert.match(shown.stdout, /^agent: not ready: .*key_revoked: /m);
});
