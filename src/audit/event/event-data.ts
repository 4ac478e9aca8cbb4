import { z } from 'zod';
import type { EventType } from './event-type.ts';

const text = z.string();
const count = z.int().nonnegative();
/** Milliseconds or microseconds; a fraction is allowed. */
const duration = z.number().nonnegative();
const sha256 = z.string();
const detail = z.unknown();

const bundle = z.object({ sha256, revision: text.optional(), sequence: count.optional() });
const reasons = z.array(z.object({ code: text, args: z.unknown().optional() }));
const candidate = z.object({ address: text, verdict: text, reasons: z.array(text).optional() });

const decision = z.object({
  allow: z.boolean(),
  decided_by: z.enum(['managed', 'guard', 'policy', 'engine', 'limit', 'audit']),
  /** Close reason of a denial. */
  reason: text.optional(),
  /** The canonical policy input, as the string that the engine parsed. */
  input: text.optional(),
  candidates: z.array(candidate).optional(),
  rule: text.nullish(),
  rules: z.object({ publish: z.array(text), stream: z.array(text) }).optional(),
  reasons: reasons.optional(),
  obligations: detail.optional(),
  recheck_at: text.nullish(),
  bundle: bundle.optional(),
  managed_sha256: sha256.optional(),
  eval_us: duration.optional(),
  /** Age of the name's answer that the candidates came from. */
  resolve_age_ms: duration.optional(),
  shadow: z.boolean().optional(),
  /** How many identical denials this one stands for; absent means 1. */
  count: count.optional(),
});

const closing = {
  reason: text,
  reason_number: count.optional(),
  bytes_up: count.optional(),
  bytes_down: count.optional(),
  duration_ms: duration.optional(),
};

const link = z.object({
  side: z.enum(['agent', 'relay', 'gateway']).optional(),
  carrier: text.optional(),
  node: text.optional(),
  bytes_up: count.optional(),
  bytes_down: count.optional(),
  reason: text.optional(),
  duration_ms: duration.optional(),
  detail: text.optional(),
});

/** What a control-plane change was: states before and after (never a secret), and the stated reason. */
const change = z.object({
  before: detail.optional(),
  after: detail.optional(),
  reason: text.optional(),
  revocation_id: text.optional(),
  note: text.optional(),
});

const login = z.object({
  role: text.optional(),
  name: text.optional(),
  instance: text.optional(),
  node: text.optional(),
  build: text.optional(),
  reason: text.optional(),
  expires_at: text.optional(),
  duration_ms: duration.optional(),
});

const life = z.object({
  version: text.optional(),
  build: text.optional(),
  reason: text.optional(),
  uptime_ms: duration.optional(),
  detail: detail.optional(),
});

const bundleEvent = z.object({
  bundle: bundle.optional(),
  previous: bundle.optional(),
  reason: text.optional(),
  would_close: count.optional(),
  eval_us: duration.optional(),
  detail: text.optional(),
});

const head = z.object({ chain: text, batch: count, seal: sha256 });

/** The `data` of each event type. */
export const eventDataSchemas = {
  'agent.started': life,
  'agent.stopped': life,
  'agent.clock_step': z.object({ step_ms: z.number() }),
  'link.opened': link,
  'link.closed': link,
  'link.refused': link,
  'publish.decision': decision,
  unpublish: z.object({ reason: text, duration_ms: duration.optional(), decision_id: text.optional() }),
  'stream.decision': decision,
  'stream.close': z.object({ ...closing, dial_ms: duration.optional(), decision_id: text.optional() }),
  'stream.refused': z.object({
    reason: text,
    reason_number: count.optional(),
    decided_by: text.optional(),
    decision_id: text.optional(),
    detail: text.optional(),
    count: count.optional(),
  }),
  'stream.resumed': z.object({ gap_ms: duration.optional(), previous_link_id: text.optional() }),
  'auth.failed': z.object({
    claimed_key_name: text.optional(),
    claimed_token_id: text.optional(),
    code: text,
    address: text.optional(),
    detail: text.optional(),
    count: count.optional(),
  }),
  'login.opened': login,
  'login.renewed': login,
  'login.closed': login,
  'key.created': change,
  'key.rotated': change,
  'key.disclosed': change,
  'key.revoked': change,
  'revocation.enforced': z.object({
    revocation_id: text,
    reason: text.optional(),
    links: count,
    streams: count.nullish(),
    ms: duration.optional(),
  }),
  'auth_rule.changed': change,
  'connection.created': change,
  'connection.changed': change,
  'connection.deleted': change,
  'enrolment.created': change,
  'enrolment.used': change,
  'enrolment.refused': change,
  'identity.revoked': change,
  'bundle.activated': bundleEvent,
  'bundle.held': bundleEvent,
  'bundle.rejected': bundleEvent,
  'policy.shadow': decision,
  'policy.error': z.object({
    code: text,
    detail: text.optional(),
    bundle: bundle.optional(),
    count: count.optional(),
  }),
  'managed.changed': z.object({
    managed_sha256: sha256.optional(),
    before: detail.optional(),
    after: detail.optional(),
  }),
  'managed.refused': z.object({ reason: text, managed_sha256: sha256.optional() }),
  'audit.gap': z.object({ dropped: count, reason: text }),
  'audit.chain_break': z.object({
    reason: text,
    previous_chain: text.optional(),
    previous_batch: count.optional(),
    detail: text.optional(),
  }),
  'audit.heartbeat': z.object({
    uptime_ms: duration,
    spool_bytes: count,
    unacknowledged: count,
    dropped: count,
    head: head.optional(),
    heads: z.array(head).optional(),
  }),
  'audit.retained': z.object({
    partitions: z.array(text),
    before: text,
    request_sha256: sha256.optional(),
    reason: text.optional(),
  }),
  'audit.exported': z.object({
    format: text,
    from: text.optional(),
    to: text.optional(),
    rows: count,
    manifest_sha256: sha256.optional(),
  }),
  'signer.added': z.object({ signer: text, public_key: text, name: text.optional() }),
  'signer.rotated': z.object({ signer: text, public_key: text, previous_signer: text }),
  'admin.action': z.object({ action: text, detail: detail.optional(), reason: text.optional() }),
} as const satisfies Record<EventType, z.ZodType>;

export type EventData = { [T in EventType]: z.input<(typeof eventDataSchemas)[T]> };
