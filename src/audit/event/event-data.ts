import { z } from 'zod';
import type { EventType } from './event-type.ts';

const text = z.string();
const count = z.int().nonnegative();
/** Milliseconds or microseconds; a fraction is allowed. */
const duration = z.number().nonnegative();
const sha256 = z.string();
const detail = z.unknown();

const bundle = z.object({
  sha256,
  revision: text.optional(),
  sequence: count.optional(),
  /** Of the grants that took the place of the bundle's; absent when its own decide. */
  grants_sha256: sha256.optional(),
});
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
  /**
   * True: a re-check of an open stream or a published connection. A denial ends it then; without the member it never
   * began, or the event was written before there was one.
   */
  recheck: z.boolean().optional(),
  /** How many identical denials this one stands for; absent means 1. */
  count: count.optional(),
});

/** What a bundle beside the active one made of its decisions since the last such event. */
const tally = z.object({
  evaluated: count,
  same: count,
  /** Allowed by both, by another rule, to other addresses or under other limits. */
  otherwise: count,
  would_deny: count,
  would_allow: count,
  /** The bundle gave no answer. */
  errors: count,
  /** Not evaluated: there was no room in the queue. */
  dropped: count,
  /** Differences that are in the counts only. */
  unwritten: count,
});

const shadow = decision.partial({ allow: true, decided_by: true }).extend({
  difference: z.enum(['would_deny', 'would_allow']).optional(),
  /** Event id of the decision that was in force; its input is what was evaluated. */
  decision_id: text.optional(),
  action: z.enum(['publish', 'stream']).optional(),
  /** The decision that was in force. */
  active: z
    .object({
      allow: z.boolean(),
      decided_by: text,
      rule: text.nullish(),
      reasons: reasons.optional(),
      bundle: bundle.optional(),
    })
    .optional(),
  tally: tally.optional(),
  interval_ms: duration.optional(),
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
  /** Configured id of the key that verified the signature; absent when none was verified. */
  signed_by: text.optional(),
  /** Rises with every activation of a process, not always by one. */
  generation: count.optional(),
  /** Where the bundle came from: a path, or an address without its query. */
  source: text.optional(),
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
  'policy.shadow': shadow,
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
    /** Heads of other chains in the database of this one. */
    heads: z.array(head).optional(),
    /** Chains whose heads are not among them. */
    heads_omitted: count.optional(),
  }),
  'audit.retained': z.object({
    partitions: z.array(text),
    before: text,
    request_sha256: sha256.optional(),
    reason: text.optional(),
  }),
  'audit.exported': z.object({
    /** Id of the event that tells of the beginning of the same export. */
    export_id: text,
    /** `begun`, `ended` or `failed`. */
    stage: text,
    format: text,
    from: text.optional(),
    to: text.optional(),
    /** Where to, in the exporter's words. */
    output: text,
    rows: count.optional(),
    bytes: count.optional(),
    /** Of what was written; of evidence, of its manifest. */
    sha256: sha256.optional(),
    /** Whose key signed the manifest. */
    signer: text.optional(),
  }),
  'signer.added': z.object({ signer: text, public_key: text, name: text.optional() }),
  'signer.rotated': z.object({ signer: text, public_key: text, previous_signer: text }),
  'admin.action': z.object({
    action: text,
    /** State before, where there was one; `detail` holds the state after. */
    before: detail.optional(),
    detail: detail.optional(),
    reason: text.optional(),
  }),
} as const satisfies Record<EventType, z.ZodType>;

export type EventData = { [T in EventType]: z.input<(typeof eventDataSchemas)[T]> };
