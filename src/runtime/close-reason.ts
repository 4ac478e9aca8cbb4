/**
 * Why a stream or a link ended: one closed, numbered enum for wire, audit, metrics and docs.
 * Numbers are wire format and never change; new reasons are appended.
 */
export const CLOSE_REASON = {
  client_fin: 1,
  client_reset: 2,
  target_fin: 3,
  target_reset: 4,
  target_unreachable: 5,
  target_timeout: 6,
  dns_failure: 7,
  open_timeout: 8,
  policy_denied: 9,
  policy_changed: 10,
  policy_timeout: 11,
  policy_error: 12,
  policy_overload: 13,
  no_bundle: 14,
  guard_denied: 15,
  limit_denied: 16,
  managed_denied: 17,
  proof_required: 18,
  grant_expired: 19,
  key_revoked: 20,
  key_rotated: 21,
  token_expired: 22,
  identity_revoked: 23,
  identity_expired: 24,
  auth_rule_removed: 25,
  connection_removed: 26,
  connection_unknown: 27,
  unpublished: 28,
  not_authorized: 29,
  admin_closed: 30,
  max_seconds: 31,
  max_bytes: 32,
  idle_timeout: 33,
  blocked_timeout: 34,
  agent_lost: 35,
  agent_shutdown: 36,
  gateway_lost: 37,
  gateway_shutdown: 38,
  relay_shutdown: 39,
  node_fenced: 40,
  link_lost: 41,
  link_failed: 42,
  loop: 43,
  audit_unavailable: 44,
  no_agent: 45,
  overloaded: 46,
  flow_control: 47,
  protocol_error: 48,
  internal: 49,
} as const;

export type CloseReason = keyof typeof CLOSE_REASON;

const nameByNumber = new Map<number, CloseReason>(
  (Object.keys(CLOSE_REASON) as CloseReason[]).map((name) => [CLOSE_REASON[name], name]),
);

/** The reason of a wire number; one that this build does not know is `internal` (record the number). */
export const closeReasonOf = (number: number): CloseReason => nameByNumber.get(number) ?? 'internal';

/** True for a name of the enum. */
export const isCloseReason = (text: string): text is CloseReason => Object.hasOwn(CLOSE_REASON, text);

/** Refusals that another agent may not share: the gateway tries once elsewhere. Policy refusals never are. */
export const MOVABLE_REASONS: ReadonlySet<CloseReason> = new Set<CloseReason>([
  'overloaded',
  'dns_failure',
  'target_unreachable',
  'target_timeout',
  'audit_unavailable',
  'agent_shutdown',
]);
