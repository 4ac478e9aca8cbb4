/** A code that a decision's `reasons` may hold. */
export interface ReasonCode {
  readonly code: string;
  /** Who says it: the Rego library, the agent's own code, or an author's `deny`. */
  readonly by: 'library' | 'agent' | 'author';
  readonly meaning: string;
  readonly remedy: string;
}

const LIBRARY: readonly Omit<ReasonCode, 'by'>[] = [
  {
    code: 'allowed_by',
    meaning: 'A live rule or grant allows it; `args.rule` is its id.',
    remedy:
      'Nothing is wrong. An allowed stream names one publish rule and one stream rule or grant at least.',
  },
  {
    code: 'no_rule',
    meaning: 'No rule of `args.action` matches.',
    remedy:
      'With `publish`, no rule lets this agent reach this target at this address: a moved target, another address of the name, another agent. With `stream`, no rule or grant is for this principal, source or hour. `sallyport policy explain` shows the condition at which each rule fails.',
  },
  {
    code: 'rule_expired',
    meaning: 'A rule matches, and its `expires` is past; `args.rule` is its id.',
    remedy: 'Ask the owner of the rule whether it is still wanted; then give it a later `expires`.',
  },
  {
    code: 'rule_invalid',
    meaning:
      'A rule matches and lacks an id, an owner or a well-formed `expires`, or has limits that cannot be kept; `args.rule` is its id, `args.member` the first member that is wrong, `args.expected` what it should be.',
    remedy: 'Run `sallyport policy check`: it names the line.',
  },
  {
    code: 'limit_invalid',
    meaning:
      'A `limits` rule holds that cannot be kept; `args.rule` is its id, `args.member` and `args.expected` say what is wrong. It denies, it does not vanish.',
    remedy:
      'Limits are max_seconds, max_bytes, idle_seconds, recheck_seconds and max_streams_per_principal, each a positive whole number.',
  },
  {
    code: 'guard_network',
    meaning:
      'The address is in a network that is never a target (`args.network`): unspecified, link-local, a cloud metadata service, multicast.',
    remedy: 'No rule can allow it. Look at what the name of the target resolves to.',
  },
  {
    code: 'guard_mapped',
    meaning: 'The address is in IPv4-mapped form.',
    remedy: 'Agents normalise addresses first, so this is seen in a vector only: write the IPv4 address.',
  },
  {
    code: 'guard_unresolved',
    meaning: 'The address is not one that the target was resolved to.',
    remedy: 'Agents only ask about resolved addresses: in a vector, put the address into `target.addresses`.',
  },
  {
    code: 'guard_claim',
    meaning: 'A key lacks the claim `args.claim`: `Send` for who opens a stream, `Listen` for who publishes.',
    remedy: 'Give the process a key of an auth-rule that has the claim.',
  },
  {
    code: 'proof_required',
    meaning:
      'Managed settings demand keys that the agent itself verified; `args.party` (key or listener) is vouched for by the relay alone.',
    remedy: 'Enrol the party with an identity, or ask who owns the managed settings.',
  },
];

const AGENT: readonly Omit<ReasonCode, 'by'>[] = [
  {
    code: 'guard_denied',
    meaning: "The guard in the agent's code refuses the address; `args.detail` says which rule of it.",
    remedy: 'No bundle can allow it. Loopback ports are allowed in agent.yaml (`allow_loopback`).',
  },
  {
    code: 'loop',
    meaning: "The target is one of Sallyport's own listeners.",
    remedy: 'Correct the target of the connection.',
  },
  {
    code: 'managed_denied',
    meaning: 'The managed settings of the machine do not allow it; `args.detail` says which of them.',
    remedy: 'No bundle can allow it. Ask who administers the machine: `/etc/sallyport/managed.yaml`.',
  },
  {
    code: 'no_bundle',
    meaning: 'The agent has no good bundle, and denies everything.',
    remedy: 'Its log and status say why the bundle was refused; `sallyport policy inspect` shows a bundle.',
  },
  {
    code: 'bundle_stale',
    meaning:
      'The bundle server has been silent for longer than `max_bundle_age_seconds`; `args.age_seconds` says how long.',
    remedy:
      'Bring the server back, or the network to it: the next answer opens everything again. `sallyport policy status` has its last error.',
  },
  {
    code: 'bundle_untrusted',
    meaning:
      'The bundle that was active is signed by none of the keys that count now, and no other is there; `args.detail` names the key.',
    remedy:
      'Sign a bundle of a higher sequence by a key that counts, or list the key again if nobody else has it.',
  },
  {
    code: 'policy_error',
    meaning: 'The policy threw, or answered something that is no decision; `args.detail` says what.',
    remedy: 'Make the recorded input a vector, and run `sallyport policy test`.',
  },
  {
    code: 'policy_timeout',
    meaning: 'The evaluation took longer than its budget.',
    remedy: 'Look for iterations over large data, and for regular expressions over lists.',
  },
  {
    code: 'policy_overload',
    meaning: 'The stream waited too long for a thread.',
    remedy: 'The machine has no time, or rules are slow: see the decision metrics of the agent.',
  },
];

/** The family of an author's own denials: `policy:` and the id of the `deny` rule. */
export const AUTHOR_REASON = 'policy:ID';

/** Every reason code there is. */
export const REASON_CODES: readonly ReasonCode[] = [
  ...LIBRARY.map((reason): ReasonCode => ({ ...reason, by: 'library' })),
  {
    code: AUTHOR_REASON,
    by: 'author',
    meaning: "An author's `deny` rule holds; ID is its id, and `args` are its own.",
    remedy: 'The page of the rule names its owner and its conditions.',
  },
  ...AGENT.map((reason): ReasonCode => ({ ...reason, by: 'agent' })),
];
