import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CONNECTION, startEnds, statusOf, writeBundle } from '../agent/ends-fixture.ts';
import { auditDatabase, rowsOf, tamper } from '../audit/audit-fixture.ts';
import { sallyport } from '../support/command.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres, type TestPostgres } from '../support/postgres.ts';
import { askOnce, dial, readToEnd } from '../support/sockets.ts';
import { temporaryDirectory } from '../support/temporary.ts';

let server: TestPostgres;
before(async () => {
  server = await startPostgres();
});
after(() => server.stop());

interface Explained {
  readonly ok: boolean;
  readonly decisions: readonly {
    readonly outcome: string;
    readonly detail: string;
    readonly data: {
      readonly allow: boolean;
      readonly bundle: { readonly sha256: string; readonly sequence: number };
    };
  }[];
}

test('decisions under two bundles are made again from the database, which was away when the second took over', async (t) => {
  const { owner, writer } = await auditDatabase(server);
  const directory = temporaryDirectory(t);
  const audit = {
    spool_dir: join(directory, 'spool'),
    key_file: join(directory, 'audit.key'),
    database_url: writer,
  };
  const { target, started, listen } = await startEnds(t, (socket) => void socket.pipe(socket), {
    agent: { config: { audit } },
  });
  const { agent, bundleFile } = started;
  assert.equal(await askOnce(t, listen, 'under the first'), 'under the first');
  await eventually('the first bundle is stored', async () =>
    (await rowsOf(owner, 'select sha256 from audit.bundle')).length === 1 ? true : undefined,
  );

  await server.pause();
  writeBundle(bundleFile, target.port, { sequence: 1_000, forbidden: [CONNECTION] });
  await eventually('the second bundle decides and waits for the database', async () => {
    const status = (await statusOf(agent)) as {
      policy: { active?: { sequence: number } };
      audit: { policies_waiting: number; policies_error: string | null };
    };
    assert.deepEqual([status.policy.active?.sequence, status.audit.policies_waiting], [1_000, 1]);
    assert.match(status.audit.policies_error ?? '', /ECONNREFUSED|57P/);
    return true;
  });
  const denied = await readToEnd(dial(t, listen));
  assert.notEqual(denied.how, 'fin');
  await server.resume();
  const decisions = await eventually('both bundles and decisions are there', async () => {
    const bundles = await rowsOf(owner, 'select sha256 from audit.bundle');
    const rows = await rowsOf(
      owner,
      "select stream_id, event_id, action, bundle_sha256 from audit.decisions where kind = 'stream' order by occurred_at",
    );
    return bundles.length === 2 && rows.some(({ action }) => action === 'denied') ? rows : undefined;
  });

  const explain = async (id: unknown): Promise<{ code: number | null; said: Explained; stderr: string }> => {
    const ran = await sallyport(['--json', 'audit', 'explain', String(id), '--database', owner]);
    return { code: ran.code, said: JSON.parse(ran.stdout) as Explained, stderr: ran.stderr };
  };
  const allowed = decisions.find(({ action }) => action === 'allowed');
  const refused = decisions.find(({ action }) => action === 'denied');
  assert.notEqual(allowed?.['bundle_sha256'], refused?.['bundle_sha256']);
  for (const [row, allow] of [
    [allowed, true],
    [refused, false],
  ] as const) {
    const { code, said, stderr } = await explain(row?.['stream_id']);
    assert.equal(code, 0, JSON.stringify(said) + stderr);
    assert.deepEqual(
      said.decisions.map(({ outcome, data }) => [outcome, data.allow, data.bundle.sha256]),
      [['agrees', allow, row?.['bundle_sha256']]],
    );
  }
  const [publish] = await rowsOf(
    owner,
    "select event_id from audit.decisions where kind = 'publish' limit 1",
  );
  assert.equal((await explain(publish?.['event_id'])).code, 0);

  const status = await sallyport(['--json', 'policy', 'status', '--database', owner]);
  assert.equal(status.code, 0, status.stdout + status.stderr);
  const { agents } = JSON.parse(status.stdout) as { agents: Record<string, unknown>[] };
  assert.deepEqual(
    agents.map((row) => [row['state'], row['bundle_sequence'], row['previous_sha256'], row['is_stored']]),
    [['running', 1_000, allowed?.['bundle_sha256'], true]],
  );

  // Whoever owns the database swaps the bundle for one that would have denied: it is not believed.
  await tamper(
    owner,
    `update audit.bundle set content = (select content from audit.bundle where sha256 = '${String(refused?.['bundle_sha256'])}') where sha256 = '${String(allowed?.['bundle_sha256'])}'`,
  );
  const altered = await explain(allowed?.['stream_id']);
  assert.equal(altered.code, 1);
  assert.equal(altered.said.decisions[0]?.outcome, 'not_decided_again');
  assert.match(altered.said.decisions[0].detail, /was altered/);
  await tamper(owner, `delete from audit.bundle where sha256 = '${String(allowed?.['bundle_sha256'])}'`);
  const gone = await explain(allowed?.['stream_id']);
  assert.equal(gone.code, 1);
  assert.match(gone.said.decisions[0]?.detail ?? '', /does not have the bundle/);

  await agent.close();
  await server.pause();
  const away = await sallyport(['audit', 'explain', String(allowed?.['stream_id']), '--database', owner]);
  assert.equal(away.code, 3, away.stderr);
  await server.resume();
});
