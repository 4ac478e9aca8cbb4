import type { AuditEventInput, EventData, EventType, Subject } from '../../src/audit/index.ts';
import { decision, ending, streamId } from './audit-fixture.ts';

const bundle = { sha256: 'ab'.repeat(32), revision: 'r1', sequence: 7 };
const link = { connection: 'orders-db', link_id: streamId(1_000_000), key_id: 'k_0123456789abcdef0123' };
const linkData = { side: 'agent' as const, carrier: 'tcp', node: 'relay-1' };
const actor = { actor: 't_1' };
const signer = { signer: 's_0123456789abcdef0123', public_key: '01'.repeat(32) };

type Vector<T extends EventType> = readonly [Subject, EventData[T]];

/** One example per event type; docs/audit-format.md holds their canonical bytes. */
const examples: { readonly [T in EventType]: Vector<T> } = {
  'agent.started': [{}, { version: '0.1.0', reason: 'start' }],
  'agent.stopped': [{}, { reason: 'agent_shutdown', uptime_ms: 1500 }],
  'agent.clock_step': [{}, { step_ms: -3_600_000 }],
  'link.opened': [{ ...link, own_spki: 'sha256/A=', peer_spki: 'sha256/B=' }, linkData],
  'link.closed': [
    link,
    { ...linkData, bytes_up: 10, bytes_down: 20, reason: 'link_lost', duration_ms: 12.5 },
  ],
  'link.refused': [link, { side: 'relay', reason: 'key_revoked' }],
  'publish.decision': [
    { connection: 'orders-db', target_host: 'sql01.corp.example', target_port: 1433 },
    {
      allow: true,
      decided_by: 'policy',
      input: '{"action":"publish","v":1}',
      rules: { publish: ['p'], stream: [] },
      bundle,
    },
  ],
  unpublish: [{ connection: 'orders-db' }, { reason: 'unpublished' }],
  'stream.decision': [decision(1).subject, decision(1).data as EventData['stream.decision']],
  'stream.close': [ending(1).subject, ending(1).data as EventData['stream.close']],
  'stream.refused': [
    { stream_id: streamId(2) },
    { reason: 'limit_denied', reason_number: 16, decided_by: 'limit' },
  ],
  'stream.resumed': [{ stream_id: streamId(2) }, { gap_ms: 40, previous_link_id: streamId(3) }],
  'auth.failed': [
    { connection: 'orders-db' },
    { claimed_key_name: 'x\u0000\ud800', code: 'bad_signature', address: '203.0.113.9', count: 3 },
  ],
  'login.opened': [
    { login_id: 'l-1', source_addr: 'fe80::1%eth0' },
    { role: 'agent', name: 'agent-1' },
  ],
  'login.renewed': [{ login_id: 'l-1' }, { expires_at: '2026-01-02T04:04:05.678Z' }],
  'login.closed': [{ login_id: 'l-1' }, { reason: 'token_expired', duration_ms: 1000 }],
  'key.created': [{ ...actor, key_id: 'k_1' }, { after: { slot: 'primary' } }],
  'key.rotated': [
    { ...actor, key_id: 'k_2' },
    { before: { key_id: 'k_1' }, after: { key_id: 'k_2' } },
  ],
  'key.disclosed': [{ ...actor, key_id: 'k_2' }, { reason: 'setup' }],
  'key.revoked': [
    { ...actor, key_id: 'k_2' },
    { reason: 'leaked', revocation_id: 'r-1' },
  ],
  'revocation.enforced': [{ key_id: 'k_2' }, { revocation_id: 'r-1', links: 2, streams: 200, ms: 31.25 }],
  'auth_rule.changed': [
    { ...actor, auth_rule: 'orders-app' },
    { before: { claims: [] }, after: { claims: ['Send'] } },
  ],
  'connection.created': [
    { ...actor, connection: 'orders-db' },
    { after: { target: 'sql01.corp.example:1433' } },
  ],
  'connection.changed': [
    { ...actor, connection: 'orders-db' },
    { before: { target: 'a:1' }, after: { target: 'b:1' } },
  ],
  'connection.deleted': [{ ...actor, connection: 'orders-db' }, { before: { target: 'b:1' } }],
  'enrolment.created': [actor, { after: { agent: 'agent-1' } }],
  'enrolment.used': [{ identity_id: 'i-1' }, { after: { agent: 'agent-1' } }],
  'enrolment.refused': [{ source_addr: '203.0.113.9' }, { reason: 'replayed' }],
  'identity.revoked': [
    { ...actor, identity_id: 'i-1' },
    { reason: 'stolen', revocation_id: 'r-2' },
  ],
  'bundle.activated': [
    {},
    {
      bundle: { ...bundle, grants_sha256: 'dc'.repeat(32) },
      previous: { ...bundle, sequence: 6 },
      signed_by: 'policy-1',
      generation: 2,
      source: 'https://bundles.example.com/warehouse/bundle.tar.gz',
      reason: 'activated',
    },
  ],
  'bundle.held': [
    {},
    {
      bundle,
      signed_by: 'policy-1',
      source: '/etc/sallyport/b.tar.gz',
      reason: 'max_close',
      would_close: 31,
    },
  ],
  'bundle.rejected': [
    {},
    { reason: 'ERR_POLICY_SIGNATURE', detail: 'no key signed it', source: '/etc/sallyport/b.tar.gz' },
  ],
  'policy.shadow': [
    { stream_id: streamId(2) },
    {
      shadow: true,
      difference: 'would_deny',
      action: 'stream',
      allow: false,
      decided_by: 'policy',
      rule: null,
      reasons: [{ code: 'no_rule', args: {} }],
      bundle: { ...bundle, sequence: 8 },
      active: { allow: true, decided_by: 'policy', rule: 'orders-app', reasons: [], bundle },
      decision_id: streamId(3),
      count: 4,
    },
  ],
  'policy.error': [{}, { code: 'policy_timeout', bundle, count: 2 }],
  'managed.changed': [{}, { managed_sha256: 'cd'.repeat(32) }],
  'managed.refused': [{}, { reason: 'writable by others' }],
  'audit.gap': [{}, { dropped: 4, reason: 'spool_full' }],
  'audit.chain_break': [{}, { reason: 'fork', previous_chain: streamId(8), previous_batch: 12 }],
  'audit.heartbeat': [
    {},
    {
      uptime_ms: 60_000,
      spool_bytes: 4096,
      unacknowledged: 1,
      dropped: 0,
      head: { chain: streamId(9), batch: 3, seal: 'ef'.repeat(32) },
      heads: [{ chain: streamId(10), batch: 7, seal: 'cd'.repeat(32) }],
      heads_omitted: 2,
    },
  ],
  'audit.retained': [actor, { partitions: ['event_20250101'], before: '2025-01-02T00:00:00Z' }],
  'audit.exported': [
    { actor: 'auditor_1', client_addr: '203.0.113.9' },
    {
      export_id: streamId(11),
      stage: 'ended',
      format: 'jsonl',
      from: '2026-01-01T00:00:00.000Z',
      output: 'export-2026-01',
      rows: 10,
      bytes: 5120,
      sha256: 'ef'.repeat(32),
      signer: 's_0123456789abcdef0123',
    },
  ],
  'signer.added': [actor, { ...signer, name: 'agent-1' }],
  'signer.rotated': [actor, { ...signer, previous_signer: 's_ffffffffffffffffffff' }],
  'admin.action': [actor, { action: 'token.created', detail: { role: 'auditor', token: 'never kept' } }],
};

export const VECTOR_ID = '01b00000-0000-7000-8000-00000000000e';
export const VECTOR_CHAIN = '01b00000-0000-7000-8000-00000000000c';
export const VECTOR_AT_MS = Date.UTC(2026, 0, 2, 3, 4, 5, 678);

export const VECTORS: readonly AuditEventInput[] = Object.entries(examples).map(
  ([type, [subject, data]]) => ({ type, at_ms: VECTOR_AT_MS, subject, data }) as AuditEventInput,
);

/** A re-check that denies an open stream: the second vector of `stream.decision`. */
export const RECHECK_VECTOR: AuditEventInput = {
  type: 'stream.decision',
  at_ms: VECTOR_AT_MS,
  subject: decision(1).subject,
  data: { ...(decision(1, false).data as EventData['stream.decision']), recheck: true },
};
