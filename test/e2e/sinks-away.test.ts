import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createDeployment, type Settings } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { askOnce, echo, listen } from '../support/sockets.ts';

const STREAMS = 40;

test('with both live sinks hanging, streams open and their rows arrive', async (t) => {
  const target = await echo(t);
  // Takes connections and bytes, and says nothing, neither TLS nor HTTP.
  const silent = await listen(t, (socket) => socket.resume());
  const edit = (settings: Settings): void => {
    const audit = settings.audit as Settings;
    audit.syslog = { address: `127.0.0.1:${silent.port}` };
    audit.otlp = { endpoint: `http://127.0.0.1:${silent.port}/v1/logs` };
  };
  const deployment = await createDeployment(t, {
    publish: { shop: `127.0.0.1:${target.port}` },
    edit: { relay: edit, agent: edit },
  });
  await deployment.startAll();
  const address = deployment.listenOf('shop');
  for (let n = 0; n < STREAMS; n += 1) assert.equal(await askOnce(t, address, `stream ${n}`), `stream ${n}`);
  await eventually('the rows are there', async () => {
    const rows = await deployment.rows<{ type: string; n: number }>(
      `select type, count(*)::int as n from audit.event
        where type in ('stream.decision', 'stream.close') group by type`,
    );
    return rows.length === 2 && rows.every(({ n }) => n >= STREAMS) ? true : undefined;
  });
  for (const role of ['relay', 'agent'] as const) {
    const metrics = await (await fetch(`${deployment.statusUrl(role)}/metrics`)).text();
    const value = (name: string, sink: string): number =>
      Number(
        new RegExp(`^sallyport_audit_sink_${name}\\{sink="${sink}",.*\\} (\\d+)$`, 'm').exec(metrics)?.[1],
      );
    for (const sink of ['syslog', 'otlp']) {
      assert.equal(value('sent_total', sink), 0);
      assert.equal(value('up', sink), 0);
      assert.ok(value('backlog_events', sink) > 0, `${role} ${sink}`);
      assert.ok(value('backlog_bytes', sink) > 0);
      assert.equal(value('dropped_total', sink), 0);
    }
    assert.equal((await fetch(`${deployment.statusUrl(role)}/readyz`)).status, 200);
  }
});
