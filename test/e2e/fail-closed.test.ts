import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { keySigner, signBundle } from '../../src/policy/index.ts';
import { edit, makeKey } from '../policy/signing-support.ts';
import { sallyport } from '../support/command.ts';
import { createDeployment, type Settings } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres } from '../support/postgres.ts';
import { askOnce, dial, echo, readToEnd } from '../support/sockets.ts';

const inAudit = (settings: Settings, change: Settings): void => {
  settings.audit = { ...(settings.audit as Settings), ...change };
};

test('while the audit database is down streams go on, and their events arrive later, once', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  // Audit and control fail apart: the agent's and the relay's audit have a server of their own.
  const auditServer = await startPostgres();
  t.after(() => auditServer.stop());
  const auditUrl = await auditServer.createDatabase('audit');
  const migrated = await sallyport(['migrate', '--database', auditUrl, '--schema', 'audit']);
  assert.equal(migrated.code, 0, migrated.stderr);
  deployment.edit('agent', (settings) => {
    const audit = settings.audit as Settings;
    delete audit.database_url_file;
    audit.database_url = auditUrl;
  });
  await deployment.startAll();
  const address = deployment.listenOf('shop');
  assert.equal(await askOnce(t, address, 'before'), 'before');

  const held = dial(t, address);
  held.write('held');
  await new Promise((resolve) => held.once('data', resolve));
  await auditServer.pause();
  held.write('on');
  await new Promise((resolve) => held.once('data', resolve));
  for (let i = 0; i < 25; i++) assert.equal(await askOnce(t, address, `while away ${i}`), `while away ${i}`);
  await auditServer.resume();

  const pg = await import('pg');
  const count = async (): Promise<{ decisions: number; closes: number; ids: number; all: number }> => {
    const client = new pg.default.Client({ connectionString: auditUrl });
    await client.connect();
    try {
      const result = await client.query<Record<'decisions' | 'closes' | 'ids' | 'all', number>>(
        `select (count(*) filter (where type = 'stream.decision'))::int as decisions,
                (count(*) filter (where type = 'stream.close'))::int as closes,
                count(distinct event_id)::int as ids, count(*)::int as all
           from audit.event where connection = 'shop' and type like 'stream.%'`,
      );
      return result.rows[0] ?? { decisions: 0, closes: 0, ids: 0, all: 0 };
    } finally {
      await client.end();
    }
  };
  const arrived = await eventually('the events arrive', async () => {
    const rows = await count();
    return rows.decisions >= 27 && rows.closes >= 26 ? rows : undefined;
  });
  assert.deepEqual(arrived, { decisions: 27, closes: 26, ids: 53, all: 53 });
});

test('near its quota the spool refuses new streams of the noisy key, and lets live ones and other keys go on', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, {
    publish: { shop: `127.0.0.1:${target.port}`, quiet: `127.0.0.1:${target.port}` },
    edit: {
      agent: (settings) => {
        inAudit(settings, { max_spool_bytes: 256 * 1024 });
        const audit = settings.audit as Settings;
        delete audit.database_url_file;
        // Nobody answers there: everything stays in the spool.
        audit.database_url = 'postgres://nobody:nothing@127.0.0.1:9/audit';
      },
    },
  });
  await deployment.startAll();
  const address = deployment.listenOf('shop');
  const held = dial(t, address);
  held.write('held');
  await new Promise((resolve) => held.once('data', resolve));

  let answered = 0;
  const refused = await eventually(
    'the spool is nearly full',
    async () => {
      const socket = dial(t, address);
      const end = readToEnd(socket);
      socket.end('x');
      const { how } = await end;
      if (how === 'fin') answered += 1;
      return how === 'fin' ? undefined : how;
    },
    60_000,
  );
  assert.equal(refused, 'ECONNRESET');
  assert.ok(answered > 0);
  const why = await deployment.command('why', 'shop');
  assert.match(why.stdout, /audit_unavailable/);
  for (let i = 0; i < 3; i++) assert.equal(await askOnce(t, deployment.listenOf('quiet'), `${i}`), `${i}`);
  const metrics = await (await fetch(`${deployment.statusUrl('agent')}/metrics`)).text();
  const [counted] = /^sallyport_audit_share_refusals.*$/m.exec(metrics) ?? [];
  assert.match(counted ?? '', / [1-9]\d*$/);
  const status = await (await fetch(`${deployment.statusUrl('agent')}/status`)).json();
  const { audit, failures } = status as {
    audit: { over_share: { principal: string }[]; spool: string };
    failures: object[];
  };
  assert.match(JSON.stringify(failures), /shop\/defaultSender has used up its share/);
  assert.equal(audit.spool, 'ok');
  assert.deepEqual(
    audit.over_share.map(({ principal }) => principal),
    ['shop/defaultSender'],
  );
  held.write('still here');
  const [echoed] = (await Promise.all([new Promise((resolve) => held.once('data', resolve))])) as [Buffer];
  assert.equal(echoed.toString(), 'still here');
});

test('a spool that is deleted under a running agent stops new streams, and only them, until a restart', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  await deployment.startAll();
  const address = deployment.listenOf('shop');
  const held = dial(t, address);
  held.write('held');
  await new Promise((resolve) => held.once('data', resolve));
  const before = target.sockets.length;

  rmSync(join(deployment.directory, 'state', 'agent', 'spool'), { recursive: true });
  for (let i = 0; i < 3; i += 1) {
    const end = await readToEnd(dial(t, address));
    assert.equal(end.how, 'ECONNRESET');
  }
  assert.equal(target.sockets.length, before, 'no byte reached the target');
  assert.match((await deployment.command('why', 'shop')).stdout, /audit_unavailable/);
  held.write('still here');
  assert.equal(String(await new Promise((resolve) => held.once('data', resolve))), 'still here');
  held.destroy();

  await deployment.kill('agent');
  deployment.start('agent');
  assert.equal(await eventually('a stream works', () => askOnce(t, address, 'again'), 60_000), 'again');
});

test('without a good bundle nothing is allowed', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  const bundle = join(deployment.directory, 'bundle.tar.gz');
  const aside = join(deployment.directory, 'good.tar.gz');
  renameSync(bundle, aside);
  deployment.start('relay');
  await deployment.ready('relay');
  const agent = deployment.start('agent');
  deployment.start('gateway');
  const refusedWith = async (reason: RegExp): Promise<void> => {
    const end = await eventually('the refusal', () => readToEnd(dial(t, deployment.listenOf('shop'))));
    assert.notEqual(end.how, 'fin');
    assert.equal(end.bytes.length, 0);
    assert.equal(target.sockets.length, 0);
    await eventually('the reason is said', async () => {
      const why = await deployment.command('why', 'shop');
      assert.match(`${why.stdout}${why.stderr}`, reason);
      return true;
    });
  };

  await t.test('no bundle', async () => {
    await refusedWith(/no_bundle|no_agent|unpublished/);
    assert.doesNotMatch(agent.output(), /^\s+at /m);
  });

  await t.test('a corrupt bundle at start', async () => {
    await deployment.kill('agent');
    writeFileSync(bundle, 'this is no bundle');
    deployment.start('agent');
    await refusedWith(/no_bundle|no_agent|unpublished/);
  });

  await t.test('a good one appears and streams work', async () => {
    copyFileSync(aside, `${bundle}.new`);
    renameSync(`${bundle}.new`, bundle);
    assert.equal(
      await eventually('a stream works', () => askOnce(t, deployment.listenOf('shop'), 'now')),
      'now',
    );
  });

  await t.test('a corrupt one afterwards changes nothing but a recorded refusal', async () => {
    writeFileSync(bundle, 'garbage');
    await eventually('the refusal of the bundle is recorded', async () => {
      const rows = await deployment.rows("select from audit.event where type = 'bundle.rejected'");
      return rows.length > 0 ? true : undefined;
    });
    assert.equal(await askOnce(t, deployment.listenOf('shop'), 'as before'), 'as before');
    rmSync(bundle);
    assert.equal(await askOnce(t, deployment.listenOf('shop'), 'still'), 'still');
  });

  await t.test(
    'an unsigned one and one of another key are refused and recorded, and streams go on',
    async () => {
      const good = readFileSync(aside);
      const unsigned = await edit(good, (files) => void files.delete('.signatures.json'));
      const foreign = await signBundle(good, keySigner(makeKey('ES256').privatePem), 'policy-1');
      for (const [bytes, code] of [
        [unsigned, 'ERR_POLICY_UNSIGNED'],
        [foreign, 'ERR_POLICY_SIGNATURE'],
      ] as const) {
        writeFileSync(`${bundle}.new`, bytes);
        renameSync(`${bundle}.new`, bundle);
        await eventually(`${code} is recorded`, async () => {
          const rows = await deployment.rows<{ canonical: Buffer }>(
            "select canonical from audit.event where type = 'bundle.rejected'",
          );
          return rows.some(({ canonical }) => canonical.includes(code)) ? true : undefined;
        });
        assert.equal(await askOnce(t, deployment.listenOf('shop'), code), code);
      }
    },
  );
});

test('an agent that cannot write its spool does not start, and says so', async (t) => {
  const target = await echo(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  const file = join(deployment.directory, 'not-a-directory');
  writeFileSync(file, '');
  deployment.edit('agent', (settings) => inAudit(settings, { spool_dir: join(file, 'spool') }));
  const agent = deployment.start('agent');
  await agent.said(/ERR_AUDIT_SPOOL/);
  const code = await agent.end();
  assert.ok(code !== 0, agent.output());
  assert.doesNotMatch(agent.output(), /^\s+at /m);
});

test('a name that resolves to a guarded address is refused, whatever policy says', async (t) => {
  const deployment = await createDeployment(t, {
    publish: { metadata: '169.254.169.254:80', mapped: '[::ffff:169.254.169.254]:80', loop: '127.0.0.2:9' },
    edit: { agent: (settings) => (settings.allow_loopback = []) },
  });
  deployment.start('relay');
  await deployment.ready('relay');
  deployment.start('agent');
  deployment.start('gateway');
  await eventually('the agent has said that it offers none of them', async () => {
    const readiness = await fetch(`${deployment.statusUrl('agent')}/readyz`);
    assert.equal(readiness.status, 503);
    assert.equal((await readiness.text()).match(/guard_denied/g)?.length, 6);
    return true;
  });
  for (const connection of ['metadata', 'mapped', 'loop']) {
    const end = await eventually('the gateway listens', () =>
      readToEnd(dial(t, deployment.listenOf(connection))),
    );
    assert.notEqual(end.how, 'fin', connection);
    await eventually('the guard is recorded', async () => {
      const rows = await deployment.rows<{ decided_by: string }>(
        `select decided_by from audit.event where connection = $1
           and type in ('publish.decision', 'stream.decision') and action = 'denied'`,
        [connection],
      );
      return rows.some((row) => row.decided_by === 'guard') ? true : undefined;
    });
  }
});
