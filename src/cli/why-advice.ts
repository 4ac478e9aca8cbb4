import type { CloseReason } from '../runtime/index.ts';

const ADVICE: Partial<Record<CloseReason, string>> = {
  policy_denied:
    "the agent's policy has no live rule for this principal and target: change the allow-list, or use another key",
  policy_changed: "a newer bundle no longer allows it: see the agent's active bundle in `sallyport status`",
  policy_timeout: 'the policy ran past its budget: look for regex or glob over long lists',
  policy_error:
    "the policy threw: the agent's log names the rule; `sallyport policy check` finds most causes",
  policy_overload: "the agent's policy workers are behind: fewer opens a second, or more workers",
  no_bundle: 'the agent has no valid bundle: see its log and `policy.bundle_file`',
  guard_denied:
    "the target's address is one that no policy can allow (loopback, link-local, metadata, the audit database)",
  loop: "the target is one of Sallyport's own listeners: correct the connection's target",
  limit_denied: 'a limit of the policy or of agent.yaml is reached: wait, or raise it',
  target_unreachable: "nobody listens at the target, or a firewall refuses: try it from the agent's host",
  target_timeout: "the target does not answer: try it from the agent's host, look for a firewall that drops",
  dns_failure: "the agent's host cannot resolve the target's name",
  open_timeout: "the open took too long: look at the agent's status and the target",
  key_revoked:
    'the key was revoked: make a new one with `sallyport key rotate` and give it to the application',
  key_rotated: 'the old key of that slot has retired: use the new one',
  token_expired:
    'the credential was not renewed: look at the clock and the log of the end that holds the key',
  auth_rule_removed: 'the auth-rule is gone: make one with `sallyport auth-rule create`',
  connection_removed: 'the connection was deleted',
  connection_unknown: 'there is no such connection: `sallyport connection list`',
  not_authorized: 'the key has not the claim that is needed: Send for gateways, Listen for agents',
  no_agent: "no connected agent publishes it: see the agent's /readyz",
  unpublished: "the agent no longer publishes it: see the agent's /readyz",
  agent_lost: 'the agent went away: see its log',
  gateway_lost: 'the gateway went away: see its log',
  link_lost: 'the data link broke: it is made again by itself',
  link_failed: 'the data link could not be made: see the logs of both ends',
  node_fenced: 'the relay does not hear its control database',
  audit_unavailable: 'the agent cannot record: disk full or spool unwritable, see its log',
  overloaded: 'too many handshakes or streams at once: try again, or add an agent',
  admin_closed: 'somebody closed it: see the audit trail',
  grant_expired: 'the rule or grant ended: extend it in the policy',
};

const AUTHORS_DENY = /^policy:(?<id>.+)$/;

/** One sentence on what to do about a close reason and its policy reasons; null where there is nothing to do. */
export const adviceFor = (code: string, reasons: readonly string[] = []): string | null => {
  const id = reasons
    .map((reason) => AUTHORS_DENY.exec(reason)?.groups?.['id'])
    .find((found) => found !== undefined);
  if (code === 'policy_denied' && id !== undefined) {
    return `the deny rule ${id} of the agent's policy forbids it: change that rule if it should be allowed`;
  }
  return ADVICE[code as CloseReason] ?? null;
};
