import type { CredentialSource } from '../protocol/index.ts';
import type { Clock } from '../runtime/index.ts';

/** A key of this agent that a relay node does not take. */
export interface RefusedKey {
  readonly node: string;
  /** Undefined when the connection string names none. */
  readonly connection: string | undefined;
  /** Name of the auth-rule; the key itself is in no message. */
  readonly keyName: string;
  /** As the node names it, such as `key_revoked`. */
  readonly code: string;
  readonly detail: string;
  /** Wall clock: since when it is refused for that. */
  readonly atMs: number;
}

const NEW_KEY =
  'put the connection string of another key with the claim Listen into agent.yaml and send SIGHUP; ' +
  '`sallyport key rotate CONNECTION/RULE --slot SLOT` makes one';

/** What to do next, by the node's code; other codes have their remedy in the detail. */
const NEXT_STEP: Readonly<Record<string, string>> = {
  key_revoked: NEW_KEY,
  key_rotated: NEW_KEY,
  auth_rule_removed: NEW_KEY,
  identity_revoked: 'this agent is revoked: set the host up under another name, with another key',
  not_authorized:
    'the relay knows no such key of that auth-rule and connection (it does not say which of them is wrong): ' +
    '`sallyport key find`, given connection_string of agent.yaml, tells whose key it is, `sallyport key list` what there is',
  token_malformed: 'take connection_string of agent.yaml again as it was printed',
  token_resource: 'the host of connection_string in agent.yaml is not the namespace of the relay',
  token_expired: "compare this machine's clock with the relay's",
  claim_missing: 'take a key of a rule with the claim Listen',
  connection_unknown: 'the connection is not there: `sallyport connection list` tells the names',
  connection_missing: 'add EntityPath=CONNECTION to connection_string of agent.yaml',
};

/** What to do about it; undefined where the node's detail has to do. */
export const nextStepOf = (code: string): string | undefined =>
  Object.hasOwn(NEXT_STEP, code) ? NEXT_STEP[code] : undefined;

/** Which keys which nodes refuse, and why: until the node takes the key, or it is let go. */
export class RefusedKeys {
  readonly #clock: Clock;
  readonly #refused = new Map<string, RefusedKey & { readonly handle: string }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  refuse(node: string, source: CredentialSource, { code, detail }: { code: string; detail: string }): void {
    const { handle, connection, keyName } = source;
    const before = this.#refused.get(`${node} ${handle}`);
    const atMs = before?.code === code ? before.atMs : this.#clock.nowMs();
    this.#refused.set(`${node} ${handle}`, { handle, node, connection, keyName, code, detail, atMs });
  }

  accept(node: string, handle: string): void {
    this.#refused.delete(`${node} ${handle}`);
  }

  /** Those of the credentials that are held now. */
  of(sources: readonly CredentialSource[]): RefusedKey[] {
    const held = new Set(sources.map(({ handle }) => handle));
    return [...this.#refused.values()].filter(({ handle }) => held.has(handle));
  }
}
