import type { CloseReason } from '../../runtime/index.ts';
import type { RefusedStream } from '../application.ts';

/** Reply codes of SOCKS5 (RFC 1928 §6). */
export const SOCKS_REPLY = {
  succeeded: 0,
  general: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  commandNotSupported: 7,
  addressTypeNotSupported: 8,
} as const;

export type SocksReply = (typeof SOCKS_REPLY)[keyof typeof SOCKS_REPLY];

interface Answer {
  readonly socks: SocksReply;
  /** HTTP status of the answer to CONNECT. */
  readonly http: 403 | 404 | 500 | 502 | 503 | 504;
}

const FORBIDDEN: Answer = { socks: SOCKS_REPLY.notAllowed, http: 403 };
const UNKNOWN: Answer = { socks: SOCKS_REPLY.notAllowed, http: 404 };
const UNREACHABLE: Answer = { socks: SOCKS_REPLY.hostUnreachable, http: 502 };
const TOO_SLOW: Answer = { socks: SOCKS_REPLY.hostUnreachable, http: 504 };
/** The target's network cannot be reached now. */
const AWAY: Answer = { socks: SOCKS_REPLY.networkUnreachable, http: 503 };
/** Something of ours cannot serve now. */
const UNAVAILABLE: Answer = { socks: SOCKS_REPLY.general, http: 503 };
const BROKEN: Answer = { socks: SOCKS_REPLY.general, http: 500 };
const REFUSED: Answer = { socks: SOCKS_REPLY.refused, http: 502 };

/** What an application hears for each reason for which a stream can end before it is open; docs/entrances.md has the table. */
const ANSWERS: Readonly<Record<CloseReason, Answer>> = {
  policy_denied: FORBIDDEN,
  policy_changed: FORBIDDEN,
  guard_denied: FORBIDDEN,
  limit_denied: FORBIDDEN,
  managed_denied: FORBIDDEN,
  proof_required: FORBIDDEN,
  grant_expired: FORBIDDEN,
  key_revoked: FORBIDDEN,
  key_rotated: FORBIDDEN,
  token_expired: FORBIDDEN,
  identity_revoked: FORBIDDEN,
  identity_expired: FORBIDDEN,
  auth_rule_removed: FORBIDDEN,
  not_authorized: FORBIDDEN,
  admin_closed: FORBIDDEN,
  loop: FORBIDDEN,
  connection_removed: UNKNOWN,
  connection_unknown: UNKNOWN,
  target_unreachable: UNREACHABLE,
  target_reset: UNREACHABLE,
  target_fin: UNREACHABLE,
  dns_failure: UNREACHABLE,
  target_timeout: TOO_SLOW,
  open_timeout: TOO_SLOW,
  idle_timeout: TOO_SLOW,
  blocked_timeout: TOO_SLOW,
  unpublished: AWAY,
  no_agent: AWAY,
  agent_lost: AWAY,
  agent_shutdown: AWAY,
  relay_shutdown: AWAY,
  node_fenced: AWAY,
  link_lost: AWAY,
  link_failed: AWAY,
  policy_timeout: UNAVAILABLE,
  policy_error: UNAVAILABLE,
  policy_overload: UNAVAILABLE,
  no_bundle: UNAVAILABLE,
  audit_unavailable: UNAVAILABLE,
  overloaded: UNAVAILABLE,
  gateway_lost: UNAVAILABLE,
  gateway_shutdown: UNAVAILABLE,
  max_seconds: UNAVAILABLE,
  max_bytes: UNAVAILABLE,
  // Nobody is left to read these.
  client_fin: BROKEN,
  client_reset: BROKEN,
  flow_control: BROKEN,
  protocol_error: BROKEN,
  internal: BROKEN,
};

/** What an application hears of a stream that it did not get. */
export const answerOf = ({ reason, isDialRefused }: RefusedStream): Answer =>
  reason === 'target_unreachable' && isDialRefused ? REFUSED : ANSWERS[reason];
