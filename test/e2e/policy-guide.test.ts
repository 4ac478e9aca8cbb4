import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { testOpa } from '../policy/support.ts';
import { projectRoot, runCommand, sallyport } from '../support/command.ts';
import { createDeployment } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, echo } from '../support/sockets.ts';

const page = readFileSync(join(projectRoot, 'docs/policy-guide.md'), 'utf8');
const DEADLINE_MS = 60_000;
/** The page says so. */
const ANSWERS_NO = 'exits 1';

interface Block {
  /** File that the block is, or empty for commands. */
  readonly file: string;
  readonly text: string;
}

const blocks: readonly Block[] = [...page.matchAll(/^```(\w*)(?: (\S+))?\n([\s\S]*?)^```$/gm)].map(
  ([, , file = '', text = '']) => ({ file, text }),
);

test('docs/policy-guide.md, command by command, over a deployment that carries streams', async (t) => {
  await testOpa();
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { orders: `127.0.0.1:${target.port}` } });
  await deployment.startAll();
  const address = deployment.listenOf('orders');
  const { directory } = deployment;
  assert.equal(await askOnce(t, address, 'before'), 'before');
  await eventually('the decision is in the database', async () => {
    const [row] = await deployment.rows<{ n: number }>(
      `select count(*)::int as n from audit.event where type = 'stream.decision'`,
    );
    return (row?.n ?? 0) > 0 ? true : undefined;
  });

  const env = { DATABASE_URL: deployment.databaseUrl };
  let commands = 0;
  for (const { file, text } of blocks) {
    const here = text.replaceAll('5432', String(target.port));
    if (file !== '') {
      writeFileSync(join(directory, file), here);
      continue;
    }
    for (const line of here.split('\n').filter((one) => /^(sallyport|cp) /.test(one))) {
      if (line.startsWith('cp ')) {
        const ran = await runCommand('sh', ['-c', line], { cwd: directory });
        assert.equal(ran.code, 0, `${line}\n${ran.stderr}`);
        continue;
      }
      const [command = '', comment = ''] = line.split('#');
      const args = command.trim().split(/\s+/).slice(1);
      const ran = await sallyport(args, { cwd: directory, env, deadlineMs: DEADLINE_MS });
      assert.equal(ran.code, comment.includes(ANSWERS_NO) ? 1 : 0, `${line}\n${ran.stdout}${ran.stderr}`);
      commands += 1;
    }
  }
  assert.ok(commands >= 20, `${commands} commands on the page`);

  await t.test('what was rolled out is enforced', async () => {
    await eventually('sequence 2 is active', async () => {
      const ran = await sallyport(['--json', 'policy', 'status', '-c', 'agent.yaml'], { cwd: directory });
      const { active } = JSON.parse(ran.stdout) as { active: { sequence: number; signedBy: string } };
      assert.deepEqual([active.sequence, active.signedBy], [2, 'policy-1']);
      return true;
    });
    assert.equal(await askOnce(t, address, 'after'), 'after');
    const rule = await eventually('its decision is recorded', async () => {
      const [row] = await deployment.rows<{ policy_rule: string }>(
        `select policy_rule from audit.event where type = 'stream.decision' order by occurred_at desc limit 1`,
      );
      return row?.policy_rule === 'orders-app' ? row.policy_rule : undefined;
    });
    assert.equal(rule, 'orders-app');
  });
});
