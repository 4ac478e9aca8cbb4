import type { DecisionReason } from '../policy/index.ts';

/** What may be done about a refusal, by the detail of its reason. */
const NEXT: Readonly<Record<string, string>> = {
  loopback: 'list the port in allow_loopback of agent.yaml if it is meant',
  audit_database:
    'it is the audit database of this agent; set allow_audit_database in agent.yaml if it is meant',
  own_listener:
    "it is one of Sallyport's own listeners: correct the connection's target; a name that the hosts file gives to a gateway here must be in DNS too",
  not_designated: 'managed settings do not designate it',
  bundle_source: 'a bundle of the source that managed settings require has to take over first',
};

/** What may be done about a refusal, by the code of its reason. */
const NEXT_BY_CODE: Readonly<Record<string, string>> = {
  no_rule:
    'no publish rule of the bundle has this connection, target and agent: `sallyport policy explain` with the decision id says why',
  rule_expired: 'extend the rule in the policy',
  guard_denied: 'no policy can allow this address (docs/policy.md, The guard)',
};

const textOf = ({ code, args }: DecisionReason): string => {
  const { detail, address } = args;
  const where = typeof address === 'string' ? ` of ${address}` : '';
  return typeof detail === 'string' ? `${code} (${detail}${where})` : code;
};

const nextOf = ({ code, args }: DecisionReason): string | undefined =>
  (typeof args['detail'] === 'string' ? NEXT[args['detail']] : undefined) ?? NEXT_BY_CODE[code];

/** Why a publication was refused, each reason once, and what to do next: for whoever runs the agent, never for the relay. */
export const denialText = (reasons: readonly DecisionReason[]): string => {
  const why = [...new Set(reasons.map(textOf))].join(', ');
  const next = [...new Set(reasons.flatMap((reason) => nextOf(reason) ?? []))].join('; ');
  return next === '' ? why : `${why}: ${next}`;
};
