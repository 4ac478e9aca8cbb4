import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AuditEventInput, ensureReaderRole, ensureWriterRole } from '../../src/audit/index.ts';
import { CLOSE_REASON } from '../../src/runtime/index.ts';
import type { TestPostgres } from '../support/postgres.ts';
import {
  auditDatabase,
  decision,
  ending,
  onDatabase,
  openLog,
  streamId,
  TEST_PASSWORD,
  urlAs,
} from './audit-fixture.ts';

/** A Wednesday; local times are two hours ahead. */
export const at = (hour: number, minute = 0, second = 0): number =>
  Date.UTC(2026, 5, 3, hour, minute, second);
export const DAY = { from: '2026-06-03', to: '2026-06-04' } as const;
export const KEY = 'k_0123456789abcdef0123';
export const OLD_BUNDLE = 'ab'.repeat(32);
export const NEW_BUNDLE = 'cd'.repeat(32);
export const linkId = (number: number): string => streamId(2_000_000 + number);

/** SHA-256 of `{}`, the request of the fixture. */
const REQUEST_SHA256 = '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a';

type Subject = AuditEventInput['subject'];
/** Fields over those of the fixture's decision. */
interface Facts {
  readonly rule?: string;
  readonly subject?: Subject;
  readonly bundle?: string;
  readonly data?: object;
}

const decided = (number: number, atMs: number, allow: boolean, facts: Facts = {}): AuditEventInput => {
  const event = decision(number, allow);
  const rule = facts.rule ?? 'orders-app';
  const sequence = facts.bundle === NEW_BUNDLE ? 8 : 7;
  return {
    ...event,
    at_ms: atMs,
    subject: { ...event.subject, ...facts.subject },
    data: {
      ...event.data,
      ...(allow ? { rule, rules: { publish: ['orders-publish'], stream: [rule] } } : {}),
      bundle: { sha256: facts.bundle ?? OLD_BUNDLE, revision: `r${sequence}`, sequence },
      ...facts.data,
    },
  } as AuditEventInput;
};

const ended = (number: number, atMs: number, data: object = {}, subject: Subject = {}): AuditEventInput => {
  const event = ending(number);
  return {
    ...event,
    at_ms: atMs,
    subject: { ...event.subject, ...subject },
    data: { ...event.data, ...data },
  } as AuditEventInput;
};

const link = (
  type: 'link.opened' | 'link.closed',
  number: number,
  atMs: number,
  names: { agent?: string; node?: string },
  data: object = {},
): AuditEventInput => ({
  type,
  at_ms: atMs,
  subject: {
    link_id: linkId(number),
    connection: 'orders-db',
    principal: 'orders-app',
    agent: names.agent,
  },
  data: { carrier: 'tcp', node: names.node ?? 'relay-1', ...data },
});

const closed = (reason: string, up: number, down: number): object => ({
  reason,
  bytes_up: up,
  bytes_down: down,
});

const change = (
  type: AuditEventInput['type'],
  atMs: number,
  subject: Subject,
  data: object,
): AuditEventInput => ({ type, at_ms: atMs, subject: { actor: 't_1', ...subject }, data }) as AuditEventInput;

const REPORTING: Subject = { principal: 'reporting', key_id: 'k_reporting', key_slot: 'secondary' };
const BATCH: Subject = { principal: 'batch', key_id: 'k_batch' };
const SQL02: Subject = { target_host: 'sql02.corp.example' };

const NO_TALLY = {
  evaluated: 0,
  same: 0,
  otherwise: 0,
  would_deny: 0,
  would_allow: 0,
  errors: 0,
  dropped: 0,
  unwritten: 0,
};

const shadowed = (count: number): AuditEventInput => ({
  type: 'policy.shadow',
  at_ms: at(15, count),
  subject: { connection: 'orders-db', principal: 'orders-app', target_host: 'sql01', target_port: 1433 },
  data: {
    shadow: true,
    difference: 'would_deny',
    action: 'stream',
    allow: false,
    decided_by: 'policy',
    rule: null,
    reasons: [
      { code: 'no_rule', args: {} },
      { code: 'address_mismatch', args: {} },
    ],
    bundle: { sha256: 'b', sequence: 8 },
    active: { allow: true, decided_by: 'policy', rule: 'r1', bundle: { sha256: 'a', sequence: 7 } },
    count,
  },
});

const agentEvents = (): AuditEventInput[] => [
  {
    type: 'bundle.activated',
    at_ms: at(6),
    subject: {},
    data: { bundle: { sha256: OLD_BUNDLE, revision: 'r7', sequence: 7 }, signed_by: 'release-key' },
  },
  decided(1, at(8), true),
  ended(1, at(8, 10)),
  decided(2, at(20), true),
  ended(2, at(20, 1)),
  decided(3, at(8, 30), false, { subject: { ...REPORTING, ...SQL02 }, data: { count: 3 } }),
  decided(4, at(9), true, { rule: 'old-rule', subject: REPORTING }),
  ended(4, at(9, 30, 1), { reason: 'key_revoked', bytes_up: 10, bytes_down: 20 }, REPORTING),
  decided(5, at(9, 1), true),
  ended(5, at(9, 2), { bytes_up: 50 * 1024 * 1024 }),
  decided(6, at(10), true),
  decided(6, at(10, 1), false, { data: { recheck: true } }),
  ended(6, at(10, 1), { reason: 'policy_changed', reason_number: CLOSE_REASON.policy_changed }),
  decided(7, at(11), true, { rule: 'batch', subject: BATCH }),
  ended(7, at(11, 1), {}, BATCH),
  {
    type: 'bundle.activated',
    at_ms: at(12),
    subject: {},
    data: {
      bundle: { sha256: NEW_BUNDLE, revision: 'r8', sequence: 8 },
      previous: { sha256: OLD_BUNDLE, revision: 'r7', sequence: 7 },
    },
  },
  decided(8, at(13), false, {
    bundle: NEW_BUNDLE,
    subject: BATCH,
    data: { reasons: [{ code: 'policy:night', args: {} }] },
  }),
  decided(9, at(13, 1), true, {
    bundle: NEW_BUNDLE,
    rule: 'reporting',
    subject: { ...REPORTING, ...SQL02 },
    data: { recheck_at: '2026-06-03T14:00:00Z' },
  }),
  {
    type: 'managed.changed',
    at_ms: at(14),
    subject: {},
    data: { before: { state: 'absent' }, after: { state: 'in_force' } },
  },
  ...[1, 4].map((count) => shadowed(count)),
  {
    type: 'policy.shadow',
    at_ms: at(16),
    subject: {},
    data: {
      shadow: true,
      tally: { ...NO_TALLY, evaluated: 9, same: 4, would_deny: 5 },
      interval_ms: 1,
    },
  },
  link('link.opened', 1, at(8), {}, { side: 'agent' }),
  link('link.closed', 1, at(9), {}, closed('gateway_lost', 100, 200)),
  link('link.closed', 2, at(10), {}, closed('link_lost', 90, 230)),
  link('link.closed', 3, at(11), {}, closed('link_lost', 101, 200)),
  link('link.closed', 9, at(11, 30), {}, closed('gateway_shutdown', 90, 200)),
  link('link.closed', 10, at(11, 31), {}, closed('link_lost', 90, 190)),
  link('link.opened', 4, at(8), {}, { side: 'agent' }),
  link('link.closed', 8, at(12), { node: 'relay-9' }, closed('link_lost', 1, 1)),
  {
    type: 'audit.retained',
    at_ms: at(15),
    subject: {},
    data: { partitions: ['event_20250101'], before: '2025-01-02', request_sha256: REQUEST_SHA256 },
  },
];

/** Beyond what any chain has sealed. */
const LATER = Date.UTC(2100, 0, 1);

const relayEvents = (laterMs: number): AuditEventInput[] => [
  link('link.closed', 1, at(9), { agent: 'agent-1' }, closed('gateway_lost', 100, 200)),
  link('link.closed', 2, at(10), { agent: 'agent-1' }, closed('agent_lost', 100, 220)),
  link('link.closed', 3, at(11), { agent: 'agent-1' }, closed('agent_lost', 100, 200)),
  link('link.closed', 9, at(11, 30), { agent: 'agent-1' }, closed('gateway_lost', 100, 200)),
  link('link.closed', 10, at(11, 31), { agent: 'agent-1' }, closed('agent_lost', 100, 200)),
  link('link.closed', 4, at(11, 40), { agent: 'agent-1' }, closed('agent_lost', 5, 5)),
  link('link.closed', 5, at(11, 50), { agent: 'agent-9' }, closed('agent_lost', 6, 6)),
  link('link.closed', 6, laterMs, { agent: 'agent-1' }, closed('agent_lost', 7, 7)),
  link('link.closed', 7, at(11, 55), { agent: 'agent-2' }, closed('agent_lost', 8, 8)),
  change(
    'key.created',
    at(7),
    { key_id: 'k_new', connection: 'orders-db', auth_rule: 'orders-app', key_slot: 'primary' },
    { after: { state: 'active' } },
  ),
  change(
    'key.rotated',
    at(7, 1),
    { key_id: 'k_newer', connection: 'orders-db', auth_rule: 'orders-app', key_slot: 'primary' },
    { before: { key_id: 'k_new' }, after: { key_id: 'k_newer' } },
  ),
  change('key.disclosed', at(7, 2), { key_id: 'k_newer', connection: 'orders-db' }, { reason: 'setting up' }),
  change(
    'key.revoked',
    at(9, 30),
    { key_id: 'k_reporting', key_slot: 'secondary' },
    { before: { state: 'active' }, after: { state: 'revoked' }, reason: 'leaked', revocation_id: 'r-1' },
  ),
  {
    type: 'revocation.enforced',
    at_ms: at(9, 30),
    subject: {},
    data: { revocation_id: 'r-1', links: 1, streams: 1, ms: 12 },
  },
  change(
    'connection.changed',
    at(7, 5),
    { connection: 'orders-db' },
    { before: { port: 1 }, after: { port: 2 } },
  ),
  change(
    'admin.action',
    at(7, 6),
    {},
    {
      action: 'token.revoked',
      before: { token_id: 't_9', revoked: false },
      detail: { token_id: 't_9', revoked: true },
    },
  ),
  {
    type: 'auth.failed',
    at_ms: at(7, 7),
    subject: { connection: 'orders-db' },
    data: { claimed_key_name: 'x', code: 'bad_signature', address: '203.0.113.9', count: 4 },
  },
  {
    type: 'auth.failed',
    at_ms: at(7, 8),
    subject: { connection: 'orders-db' },
    data: { claimed_key_name: 'x', code: 'bad_signature', address: '203.0.113.9' },
  },
];

const CATALOG: readonly (readonly [string, string, string, string])[] = [
  [OLD_BUNDLE, 'orders-app', 'stream', 'never'],
  [OLD_BUNDLE, 'old-rule', 'stream', 'never'],
  [OLD_BUNDLE, 'batch', 'stream', 'never'],
  [NEW_BUNDLE, 'orders-publish', 'publish', 'never'],
  [NEW_BUNDLE, 'orders-app', 'stream', 'never'],
  [NEW_BUNDLE, 'reporting', 'stream', '2099-01-01'],
  [NEW_BUNDLE, 'batch', 'stream', '2026-07-01T00:00:00Z'],
  [NEW_BUNDLE, 'grant-unused', 'stream', 'tomorrow'],
  [NEW_BUNDLE, 'night', 'deny', 'never'],
  [NEW_BUNDLE, 'deny-unused', 'deny', 'never'],
  [NEW_BUNDLE, 'limits', 'limits', 'never'],
];

const fillCatalog = (owner: string): Promise<void> =>
  onDatabase(owner, async (client) => {
    for (const [sha256, sequence] of [
      [OLD_BUNDLE, 7],
      [NEW_BUNDLE, 8],
    ] as const) {
      await client.query(
        `insert into audit.bundle (sha256, revision, sequence, first_seen_at, content)
         values ($1, 'r' || $2::bigint, $2, '2026-06-01', '\\x00')`,
        [sha256, sequence],
      );
    }
    for (const [bundle, rule, action, expires] of CATALOG) {
      await client.query(
        `insert into audit.bundle_rule (bundle_sha256, rule_id, action, connection, title, owner, ticket, expires, location)
         values ($1, $2, $3, 'orders-db', $2, 'dba@example.com', 'SEC-1', $4, 'allow.rego:1')`,
        [bundle, rule, action, expires],
      );
    }
    await client.query(
      `insert into audit.retention (retention_id, retained_at, before, partitions, signer, signature, canonical)
       values ('${streamId(3_000_000)}', '2026-06-03T15:00:00Z', '2025-01-02', '{event_20250101}', 's_operator', '\\x00', '\\x7b7d')`,
    );
  });

export interface QuestionsStore {
  readonly owner: string;
  /** As role audit_read. */
  readonly readerUrl: string;
  close(): Promise<void>;
}

/** A store of one day on two sides whose answers are known. */
export const questionsStore = async (server: TestPostgres): Promise<QuestionsStore> => {
  const { owner, writer } = await auditDatabase(server);
  for (const login of ['writer_2', 'writer_3']) await ensureWriterRole(owner, login, TEST_PASSWORD);
  await ensureReaderRole(owner, 'reader_1', TEST_PASSWORD);
  await fillCatalog(owner);
  const directory = mkdtempSync(join(tmpdir(), 'sallyport-questions-'));
  const origin = { instance: 'instance-1', namespace: 'relay.example.com', version: '0.1.0' };
  const agent = await openLog(join(directory, 'agent'), { database: { url: writer } });
  const relay = await openLog(join(directory, 'relay'), {
    database: { url: urlAs(owner, 'writer_2') },
    origin: { ...origin, kind: 'relay', name: 'relay-1' },
  });
  const gone = await openLog(join(directory, 'gone'), {
    database: { url: urlAs(owner, 'writer_3') },
    origin: { ...origin, kind: 'agent', name: 'agent-2' },
  });
  await gone.record(link('link.opened', 7, at(8), {}, { side: 'agent' }));
  await gone.flush(20_000);
  await gone.close();
  for (const event of agentEvents()) await agent.record(event);
  await agent.flush(20_000);
  for (const event of relayEvents(LATER)) await relay.record(event);
  await relay.flush(20_000);
  return {
    owner,
    readerUrl: urlAs(owner, 'reader_1'),
    async close() {
      await agent.close();
      await relay.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
};
