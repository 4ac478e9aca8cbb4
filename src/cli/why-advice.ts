import { type CloseReason, isCloseReason } from '../runtime/index.ts';

/** What to do about each way in which a link or a stream ends. Null: nothing, it ended as it should. */
export const REMEDIES: Readonly<Record<CloseReason, string | null>> = {
  client_fin: null,
  client_reset: 'the application broke it off: see its own log',
  target_fin: null,
  target_reset: 'the target broke it off: see its log; a firewall between it and the agent may do so too',
  target_unreachable:
    "nobody listens at the target, or a firewall refuses: `sallyport doctor -c agent.yaml` on the agent's host tries it",
  target_timeout:
    "the target does not answer: `sallyport doctor -c agent.yaml` on the agent's host tries it; look for a firewall that drops",
  dns_failure:
    "the agent's host cannot resolve the target's name: correct the connection's target, or that host's name server",
  open_timeout: "the open took too long: look at the agent's status and the target",
  policy_denied:
    "no rule of the agent's policy allows it as it came: one may be missing, over, or out of its hours; change the allow-list, or use another key",
  policy_changed:
    'its rule holds no longer: its hours or another condition, a newer bundle, or the grants file; the detail says which ' +
    'of them changed, `sallyport policy status -c agent.yaml` what decides now',
  policy_timeout: 'the policy ran past its budget: look for regex or glob over long lists',
  policy_error:
    "the policy threw: the agent's log names the rule; `sallyport policy check` finds most causes",
  policy_overload: "the agent's policy workers are behind: fewer opens a second, or more workers",
  no_bundle:
    'the agent has no valid bundle: `sallyport doctor -c agent.yaml` on its host says what is wrong with it',
  guard_denied:
    "the target's address is one that no policy can allow (loopback, link-local, metadata, the audit database): correct the connection's target, or see allow_loopback and allow_audit_database of agent.yaml; docs/policy.md, The guard, has every rule",
  loop: "the target is one of Sallyport's own listeners: correct the connection's target; where a gateway on the agent's host has the name in the hosts file, DNS there must know it too",
  limit_denied: 'a limit of the policy or of agent.yaml is reached: wait, or raise it',
  managed_denied:
    "the managed settings of the agent's host forbid it: whoever administers that host decides in /etc/sallyport/managed.yaml",
  proof_required:
    "the managed settings of the agent's host take proved identities only: use one, or have require_proof lifted",
  grant_expired: 'the rule or grant ended: extend it in the policy',
  key_revoked:
    'the key is revoked: make another with `sallyport key rotate` and hand it to the end that held it',
  key_rotated: 'the old key of that slot has retired: use the new one',
  token_expired:
    'the credential was not renewed: look at the clock and the log of the end that holds the key',
  identity_revoked: 'the identity is revoked for good: enroll that end anew',
  identity_expired:
    'the identity ended without being renewed: see the log and the clock of that end, and enroll it anew',
  auth_rule_removed: 'the auth-rule is gone: make one with `sallyport auth-rule create`',
  connection_removed:
    'the connection was deleted: make it again with `sallyport connection create` if it is missed',
  connection_unknown:
    'there is no such connection, or gateway.yaml names another target for it: `sallyport connection list`',
  unpublished:
    "the agent no longer publishes it: `sallyport status -c agent.yaml` on the agent's host says why, as does `sallyport audit query denials`",
  not_authorized:
    'the key is wrong, or has not the claim that is needed (Send for gateways, Listen for agents): `sallyport key list` shows which is good',
  admin_closed: 'somebody closed it: `sallyport audit query` tells who and why',
  max_seconds:
    'it lived as long as its rule lets streams live: connect again, or raise max_seconds in the policy',
  max_bytes:
    'it carried as much as its rule lets streams carry: connect again, or raise max_bytes in the policy',
  idle_timeout:
    'nothing was sent for as long as its rule allows: let the application keep it alive, or raise idle_seconds in the policy',
  blocked_timeout: 'one side took no bytes for too long: see whether the application or the target hangs',
  agent_lost: 'the agent went away: see its log',
  agent_shutdown:
    'the agent was stopped: applications connect again; another agent of the connection takes over at once',
  gateway_lost: 'the gateway went away: see its log',
  gateway_shutdown: 'the gateway was stopped: start it again',
  relay_shutdown: 'the relay node was stopped: ends go on at another node, or when it is back',
  node_fenced:
    'the relay does not hear its control database: `sallyport doctor -c relay.yaml` on its host says why',
  link_lost:
    'the data link broke and is made again by itself; where it happens often, see what closes long connections on the way',
  link_failed:
    'the data link could not be made: `sallyport doctor -c FILE` at both ends tries the ports of the relay',
  audit_unavailable:
    'the agent cannot record: disk full, spool unwritable or at its quota, or this key over its share: see `audit` in its /status',
  no_agent:
    "no connected agent publishes it: `sallyport status -c agent.yaml` on the agent's host says why; what policy or guard refuse is in `sallyport audit query denials`",
  overloaded: 'too many handshakes or streams at once: try again, or add an agent',
  flow_control:
    'one end sent more than it was allowed: are both ends of a supported version? report it with both logs',
  protocol_error:
    'the ends do not understand each other, or somebody tampers: compare versions in `sallyport agents list`, see both logs',
  internal: 'a fault of Sallyport itself: see the logs of both ends, and report it',
};

/** Codes of which a decision is recorded that can be made again. */
const DECIDED: readonly string[] = ['policy_denied', 'policy_changed', 'grant_expired'];

/** What to do where one rule of the guard has a setting of its own. */
const GUARD_RULES: Readonly<Record<string, string>> = {
  loopback:
    "the guard's rule `loopback` refused it: list the port in allow_loopback of agent.yaml if it is meant (docs/policy.md, The guard)",
  audit_database:
    "the guard's rule `audit_database` refused it: set allow_audit_database in agent.yaml if it is meant (docs/policy.md, The guard)",
};

/** By the rule that the agent's detail names, `127.0.0.1: guard_denied loopback`. */
const guardAdvice = (detail: string): string | null =>
  GUARD_RULES[/\bguard_denied (?<rule>[a-z_]+)/.exec(detail)?.groups?.['rule'] ?? ''] ??
  REMEDIES.guard_denied;

const AUTHORS_DENY = /^policy:(?<id>.+)$/;

/** One sentence on what to do about a close reason and its policy reasons; null where there is nothing to do. */
export const adviceFor = (
  code: string,
  reasons: readonly string[] = [],
  streamId: string | null = null,
  detail = '',
): string | null => {
  const advice = code === 'guard_denied' ? guardAdvice(detail) : adviceOf(code, reasons);
  if (advice === null || streamId === null || !DECIDED.includes(code)) return advice;
  return `${advice}; \`sallyport policy explain --stream ${streamId}\` says what each rule missed`;
};

/** The deny rule of a policy's author among the reasons of a decision. */
export const denyRuleOf = (reasons: readonly string[]): string | undefined =>
  reasons.map((reason) => AUTHORS_DENY.exec(reason)?.groups?.['id']).find((found) => found !== undefined);

const adviceOf = (code: string, reasons: readonly string[]): string | null => {
  const id = denyRuleOf(reasons);
  if (code === 'policy_denied' && id !== undefined) {
    return `the deny rule ${id} of the agent's policy forbids it: change that rule if it should be allowed`;
  }
  return isCloseReason(code) ? REMEDIES[code] : null;
};
