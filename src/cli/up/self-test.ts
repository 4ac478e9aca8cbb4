import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { queryAudit, verifyAudit } from '../../audit/index.ts';
import { keyIdOf, parseConnectionString } from '../../identity/index.ts';
import {
  type Clock,
  type HostPort,
  messageOf,
  parseHostPort,
  randomBytes,
  sleep,
} from '../../runtime/index.ts';
import { checkpointFilesOf, headFilesOf } from '../audit/access.ts';
import { type AdminClient, createAdminClient } from '../manage/admin-client.ts';
import { counted, type Output } from '../output.ts';
import type { ReadyConnection, ReadyFile } from '../ready-file.ts';
import { FORBIDDEN_CONNECTION, SELF_TEST_CONNECTION } from './options.ts';
import { digestThroughHalfClose, expectedDigest, holdStream, probe } from './probe.ts';

export interface SelfTestCheck {
  readonly name: string;
  readonly ok: boolean;
  readonly ms: number;
  readonly detail: string;
}

export interface SelfTestResult {
  readonly ok: boolean;
  readonly checks: readonly SelfTestCheck[];
}

/** One step may take this long before it counts as failed. */
const PATIENCE_MS = 5_000;
/** Records reach the database within this. */
const TRAIL_DEADLINE_MS = 8_000;
const POLL_MS = 50;
const HALF_CLOSE_BYTES = 1024 * 1024;

class Failed extends Error {}

const expect = (condition: boolean, what: string): void => {
  if (!condition) throw new Failed(what);
};

const connectionOf = (ready: ReadyFile, name: string): ReadyConnection => {
  const found = ready.connections.find((connection) => connection.name === name);
  if (found === undefined) throw new Failed(`connection ${name} is not published`);
  return found;
};

const listenOf = (ready: ReadyFile, name: string): HostPort =>
  parseHostPort(connectionOf(ready, name).listen);

/** Asks the audit database, past the tunnel, until it has a row. */
const awaitRow = async (
  ready: ReadyFile,
  clock: Clock,
  sql: string,
): Promise<Readonly<Record<string, unknown>>> => {
  const untilMs = clock.monotonicMs() + TRAIL_DEADLINE_MS;
  for (;;) {
    const [row] = (await queryAudit(ready.database_url, sql)).rows;
    if (row !== undefined) return row;
    if (clock.monotonicMs() > untilMs) throw new Failed('the audit database has no row of it');
    await sleep(clock, POLL_MS);
  }
};

const open = async (ready: ReadyFile): Promise<string> => {
  expect(ready.audit_read_url !== null, 'audit-db is not published');
  const { rows } = await queryAudit(
    ready.audit_read_url ?? '',
    'select count(*)::int as count from audit.decisions',
  );
  return `a query went through the tunnel; the trail has ${String(rows[0]?.['count'])} decisions`;
};

const deny = async (ready: ReadyFile, clock: Clock): Promise<string> => {
  const address = listenOf(ready, FORBIDDEN_CONNECTION);
  const tried = await probe(address, PATIENCE_MS, clock);
  expect(tried.outcome === 'reset', `expected a reset, saw ${tried.outcome} (${tried.detail})`);
  const row = await awaitRow(
    ready,
    clock,
    `select decided_by, reasons from audit.denies where connection = '${FORBIDDEN_CONNECTION}' order by occurred_at desc limit 1`,
  );
  expect(row['decided_by'] === 'policy', `decided by ${String(row['decided_by'])}`);
  const reasons = Array.isArray(row['reasons']) ? row['reasons'].join(', ') : '';
  return `reset after ${tried.ms.toFixed(1)} ms, policy_denied (${reasons})`;
};

const halfClose = async (ready: ReadyFile): Promise<string> => {
  const bytes = randomBytes(HALF_CLOSE_BYTES);
  const digest = await digestThroughHalfClose(listenOf(ready, SELF_TEST_CONNECTION), bytes, PATIENCE_MS);
  expect(digest === expectedDigest(bytes), `the answer after FIN was ${JSON.stringify(digest.slice(0, 80))}`);
  return `${HALF_CLOSE_BYTES / 1024} KiB, FIN, and the answer came back after it`;
};

const revokedSchema = z.object({
  links: z.number(),
  streams: z.number().nullable(),
  ms: z.number(),
  pending: z.array(z.unknown()),
});

const revoke = async (ready: ReadyFile, clock: Clock, client: AdminClient): Promise<string> => {
  const { send_connection_string_file: file } = connectionOf(ready, SELF_TEST_CONNECTION);
  const keyId = keyIdOf(parseConnectionString(readFileSync(file, 'utf8').trim()).key);
  const stream = await holdStream(listenOf(ready, SELF_TEST_CONNECTION), PATIENCE_MS, clock);
  const askedMs = clock.monotonicMs();
  const answer = revokedSchema.parse(await client.post(`/keys/${keyId}/revoke`, { reason: 'self-test' }));
  const end = await Promise.race([stream.ended, sleep(clock, PATIENCE_MS).then(() => undefined)]);
  if (end === undefined) {
    stream.close();
    throw new Failed(`the stream was still open ${PATIENCE_MS} ms after the revocation`);
  }
  expect(end.reset, 'the stream ended, but not as a reset');
  expect(
    answer.pending.length === 0,
    `${counted(answer.pending.length, 'node or agent has', 'nodes or agents have')} not confirmed`,
  );
  expect(answer.links >= 1, 'no link was cut');
  expect((answer.streams ?? 0) >= 1, `the agent reports ${String(answer.streams)} cut streams`);
  const row = await awaitRow(
    ready,
    clock,
    `select close_reason from audit.streams where connection = '${SELF_TEST_CONNECTION}' and key_id = '${keyId}' and close_reason = 'key_revoked' limit 1`,
  );
  return `cut ${(end.atMs - askedMs).toFixed(1)} ms after the request, recorded as ${String(row['close_reason'])}`;
};

const verify = async (ready: ReadyFile): Promise<string> => {
  const report = await verifyAudit({
    databaseUrl: ready.database_url,
    trustFile: ready.trust_file,
    headFiles: headFilesOf(ready),
    checkpointFiles: checkpointFilesOf(ready),
    columns: true,
  });
  const [first] = report.findings;
  expect(
    report.ok,
    `${counted(report.findings.length, 'finding')}, first: ${first?.kind ?? ''} ${first?.message ?? ''}`,
  );
  return `${counted(report.chains, 'chain')}, ${counted(report.seals, 'seal')}, ${counted(report.events, 'event')}`;
};

/** Opens, denies, half-closes, revokes and verifies on a running `up` that publishes `self-test`. */
export const runSelfTest = async (
  ready: ReadyFile,
  clock: Clock,
  output: Output,
): Promise<SelfTestResult> => {
  const client = createAdminClient({
    url: ready.relay.admin_url,
    token: readFileSync(ready.admin_token_file, 'utf8').trim(),
  });
  const steps: readonly (readonly [string, () => Promise<string>])[] = [
    ['open', () => open(ready)],
    ['deny', () => deny(ready, clock)],
    ['half_close', () => halfClose(ready)],
    ['revoke', () => revoke(ready, clock, client)],
    ['verify', () => verify(ready)],
  ];
  const checks: SelfTestCheck[] = [];
  for (const [name, step] of steps) {
    output.progress(`self-test: ${name} …`);
    const startedMs = clock.monotonicMs();
    const took = (): number => Math.round((clock.monotonicMs() - startedMs) * 10) / 10;
    try {
      const detail = await step();
      checks.push({ name, ok: true, ms: took(), detail });
    } catch (error) {
      checks.push({ name, ok: false, ms: took(), detail: messageOf(error) });
    }
  }
  return { ok: checks.every((check) => check.ok), checks };
};

/** Shows what was found, one line each. */
export const showSelfTest = (output: Output, result: SelfTestResult): void => {
  output.document(result);
  output.table(result.checks, [
    { title: 'check', value: (check) => check.name },
    { title: 'result', value: (check) => (check.ok ? 'ok' : 'FAILED') },
    { title: 'ms', value: (check) => check.ms.toFixed(1), align: 'right' },
    { title: 'detail', value: (check) => check.detail },
  ]);
  output.line(result.ok ? 'self-test: everything works' : 'self-test: something does not work');
};
