import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sallyport } from '../support/command.ts';
import { createDeployment, type Role } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, dial, echo, readToEnd } from '../support/sockets.ts';

const RECOVERY_DEADLINE_MS = 60_000;

test("three processes started apart from init's files", async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  await deployment.startAll();
  const address = deployment.listenOf('shop');
  const works = (text: string): Promise<string> =>
    eventually(`a stream works (${text})`, () => askOnce(t, address, text), RECOVERY_DEADLINE_MS);

  await t.test('a stream works, over TLS that is verified', async () => {
    assert.equal(await works('first'), 'first');
    const { status } = (await (await fetch(`${deployment.statusUrl('gateway')}/status`)).json()) as {
      status?: unknown;
    };
    assert.notEqual(status, null);
  });

  for (const role of ['gateway', 'agent', 'relay'] as const satisfies readonly Role[]) {
    await t.test(
      `the ${role} is killed (-9) with a stream open, started again, and streams work`,
      async () => {
        const held = dial(t, address);
        const ended = readToEnd(held, RECOVERY_DEADLINE_MS);
        held.write('x');
        await new Promise((resolve) => held.once('data', resolve));
        await deployment.kill(role);
        deployment.start(role);
        assert.equal(await works(`after the ${role}`), `after the ${role}`);
        // A relay's end leaves nothing of the stream; a killed gateway's kernel resets or ends its sockets.
        await ended;
        await deployment.ready(role);
      },
    );
  }

  await t.test('every stream that was allowed has its decision and its end, once', async () => {
    await eventually('the events have arrived', async () => {
      const [row] = await deployment.rows<{ decisions: string; closes: string; twice: string }>(
        `select count(*) filter (where type = 'stream.decision' and action = 'allowed') as decisions,
                count(*) filter (where type = 'stream.close') as closes,
                count(*) - count(distinct event_id) as twice
           from audit.event where connection = 'shop'`,
      );
      assert.equal(row?.twice, '0');
      // The agent that was killed cannot tell how its stream ended: at most that one has no end yet.
      assert.ok(Number(row.decisions) - Number(row.closes) <= 1, JSON.stringify(row));
      return Number(row.decisions) >= 7 ? true : undefined;
    });
  });

  await t.test('the chains of every boot verify', async () => {
    const verified = await sallyport([
      '--json',
      'audit',
      'verify',
      '--database',
      deployment.databaseUrl,
      '--trust',
      `${deployment.directory}/trust.json`,
    ]);
    const report = JSON.parse(verified.stdout) as { chains: number; events: number; findings: unknown[] };
    assert.deepEqual(report.findings, []);
    // Two boots of the agent and two of the relay.
    assert.equal(report.chains, 4, verified.stdout);
    assert.ok(report.events >= 14);
  });

  await t.test('SIGTERM ends each with 0', async () => {
    for (const role of ['gateway', 'agent', 'relay'] as const) {
      assert.equal(await deployment.process(role).end('SIGTERM'), 0, deployment.process(role).output());
    }
  });
});

test('a gateway that is given another CA refuses the relay and says so', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  const { certFile } = (await import('../support/services.ts')).selfSigned(t);
  deployment.edit('gateway', (settings) => (settings.ca_file = certFile));
  deployment.start('relay');
  await deployment.ready('relay');
  const gateway = deployment.start('gateway');
  await gateway.said(/self-signed certificate|unable to verify|certificate/i);
  await assert.rejects(askOnce(t, deployment.listenOf('shop'), 'nobody'));
  assert.equal(target.sockets.length, 0);
});
