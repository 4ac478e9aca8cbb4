// kill -9 of the agent and of the audit database at random moments under load. CHAOS_KILLS=200 for the long run,
// CHAOS_SEED to have the same choices again (docs/operations.md says what must hold).
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'node:test';
import { verifyAudit } from '../../src/audit/index.ts';
import { rowsOf } from '../audit/audit-fixture.ts';
import { sallyport } from '../support/command.ts';
import { createDeployment, type Settings } from '../support/deployment.ts';
import { eventually } from '../support/eventually.ts';
import { startPostgres } from '../support/postgres.ts';
import { randomFrom } from '../support/random-from.ts';
import { askOnce, dial, listen } from '../support/sockets.ts';
import type { Closer } from '../support/temporary.ts';

const KILLS = Number(process.env.CHAOS_KILLS ?? 6);
const SEED = Number(process.env.CHAOS_SEED ?? Math.floor(Math.random() * 2 ** 31));
const CLIENTS = 6;
const ROUNDS_PER_STREAM = 5;
const MAX_WAIT_MS = 700;
const DRAIN_MS = 60_000;

/** A target that remembers the first line of each connection, and echoes. */
const rememberingTarget = async (t: Closer) => {
  const tokens: string[] = [];
  const target = await listen(t, (socket) => {
    let first = '';
    socket.on('data', (chunk) => {
      if (!first.includes('\n')) {
        first += chunk.toString('latin1');
        if (first.includes('\n')) tokens.push(first.slice(0, first.indexOf('\n')));
      }
      socket.write(chunk);
    });
    socket.on('end', () => socket.end());
  });
  return { port: target.port, tokens };
};

/** One stream: a line that names the client's own port, some rounds of bytes, an end. Whatever breaks, it is over. */
const oneStream = async (socket: Socket): Promise<boolean> => {
  const over = new Promise<false>((resolve) => {
    socket.once('error', () => resolve(false));
    socket.once('close', () => resolve(false));
  });
  const step = (event: string): Promise<boolean> =>
    Promise.race([new Promise<true>((resolve) => socket.once(event, () => resolve(true))), over]);
  if (!(await step('connect'))) return false;
  for (let round = 0; round < ROUNDS_PER_STREAM; round += 1) {
    socket.write(round === 0 ? `${socket.localPort}\n` : 'x'.repeat(512));
    if (!(await step('data'))) return false;
  }
  socket.end();
  await step('end');
  socket.destroy();
  return true;
};

const countBy = (values: readonly string[]): Map<string, number> => {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
};

const agentChains = `select chain_id, prev_chain, final from audit.chain order by epoch`;

test(`${KILLS} kills of agent and audit database under load lose nothing (seed ${SEED})`, async (t) => {
  t.diagnostic(`CHAOS_KILLS=${KILLS} CHAOS_SEED=${SEED}`);
  const random = randomFrom(SEED);
  const target = await rememberingTarget(t);
  const deployment = await createDeployment(t, { publish: { shop: `127.0.0.1:${target.port}` } });
  const auditServer = await startPostgres({ durable: true });
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
  let starts = 1;
  let loading = true;
  let completed = 0;
  const client = async (): Promise<void> => {
    while (loading) {
      if (await oneStream(dial(t, address))) completed += 1;
      else await pause(20);
    }
  };
  const clients = Array.from({ length: CLIENTS }, client);

  const killAgent = async (): Promise<void> => {
    await deployment.kill('agent');
    await pause(random() * MAX_WAIT_MS);
    deployment.start('agent');
    starts += 1;
    // Every other one may be killed again while it starts.
    if (random() < 0.5) await deployment.ready('agent');
  };
  const killDatabase = async (): Promise<void> => {
    await auditServer.kill();
    await pause(random() * MAX_WAIT_MS);
    await auditServer.resume();
  };
  const kinds = { agent: 0, database: 0, both: 0 };
  for (let kill = 0; kill < KILLS; kill += 1) {
    await pause(random() * MAX_WAIT_MS);
    const choice = (['agent', 'database', 'both'] as const)[Math.floor(random() * 3)] ?? 'both';
    kinds[choice] += 1;
    if (choice === 'agent') await killAgent();
    else if (choice === 'database') await killDatabase();
    else await Promise.all([killAgent(), killDatabase()]);
  }
  await deployment.ready('agent');
  const before = completed;
  await eventually('streams work after the last kill', () =>
    completed > before + CLIENTS ? true : undefined,
  );
  loading = false;
  await Promise.all(clients);
  assert.equal(await askOnce(t, address, 'last'), 'last');
  await eventually(
    'the backlog is with the database',
    async () => {
      const status = (await (await fetch(`${deployment.statusUrl('agent')}/status`)).json()) as {
        audit: { unacknowledged_batches: number };
        streams: { open: number };
      };
      return status.audit.unacknowledged_batches === 0 && status.streams.open === 0 ? true : undefined;
    },
    DRAIN_MS,
  );
  await deployment.process('agent').end();
  t.diagnostic(`${JSON.stringify(kinds)}, ${target.tokens.length} streams at the target, ${starts} starts`);

  const decisions = await rowsOf(
    auditUrl,
    `select client_port::text as port, event_id, stream_id from audit.event
      where type = 'stream.decision' and connection = 'shop' and action = 'allowed'`,
  );
  assert.equal(
    new Set(decisions.map(({ event_id: id }) => id as string)).size,
    decisions.length,
    'no duplicates',
  );
  const decided = countBy(decisions.map(({ port }) => port as string));
  const tokens = target.tokens.filter((token) => token !== 'last');
  assert.ok(tokens.length >= completed, `${tokens.length} tokens of ${completed} whole streams`);
  for (const [port, seen] of countBy(tokens)) {
    const allowed = decided.get(port) ?? 0;
    assert.ok(
      allowed >= seen,
      `port ${port}: ${seen} streams moved bytes, ${allowed} were allowed on record`,
    );
  }
  const endless = await rowsOf(
    auditUrl,
    `select d.stream_id from audit.event d
      where d.type = 'stream.decision' and d.connection = 'shop' and d.action = 'allowed' and not exists (
        select from audit.event c where c.type = 'stream.close' and c.stream_id = d.stream_id)`,
  );
  assert.deepEqual(endless, [], 'each allowed stream has its end');

  // A kill ends a chain, and the next start seals and continues it: the only break is that of the first start.
  const chains = await rowsOf(auditUrl, agentChains);
  assert.ok(chains.length <= starts, `${chains.length} chains of ${starts} starts`);
  assert.ok(
    chains.every(({ final }) => final === true),
    'each chain was ended, by its successor where it was cut',
  );
  for (const [index, chain] of chains.entries())
    assert.equal(chain.prev_chain, index === 0 ? null : chains[index - 1]?.chain_id);
  const breaks = await rowsOf(
    auditUrl,
    `select convert_from(canonical, 'UTF8')::jsonb #>> '{data,reason}' as reason
       from audit.event where type = 'audit.chain_break'`,
  );
  assert.deepEqual(breaks, [{ reason: 'no_previous_spool' }]);
  const report = await verifyAudit({ databaseUrl: auditUrl, columns: true });
  assert.deepEqual(
    report.findings.map(({ kind }) => kind),
    ['no_anchor'],
  );
});
