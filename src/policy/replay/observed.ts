import type { PolicyInputBase } from '../input.ts';
import type { PastDecision } from './recorded.ts';

/** Streams of one principal, or publishes of one target, as they were allowed. */
export interface Observed {
  decisions: number;
  lastAt: string;
  /** The input of the last one, with the address that it was allowed for. */
  lastInput: PolicyInputBase & { readonly target: { readonly address: string } };
  readonly addresses: Set<string>;
  readonly agents: Set<string>;
  readonly sources: Set<string>;
  /** Some came without an observed source: a condition on it would have denied them. */
  withoutSource: boolean;
}

/** What one connection was used for. */
export interface ObservedConnection {
  readonly name: string;
  /** By `HOST:PORT`. */
  readonly targets: Map<string, Observed>;
  /** By principal. */
  readonly principals: Map<string, Observed>;
}

/** Gathers what recorded decisions allowed, by connection, target and principal. Memory rises with those, not with time. */
export class Observations {
  readonly #connections = new Map<string, ObservedConnection>();
  decisions = 0;

  /** Denials say nothing of what is needed and are passed over. */
  add(past: PastDecision): void {
    const [address] = past.allowedAddresses;
    if (!past.allow || past.input === undefined || address === undefined) return;
    const input = JSON.parse(past.input) as PolicyInputBase;
    const { connection, target, key, action } = input;
    this.decisions += past.count;
    const found = this.#connections.get(connection.name) ?? {
      name: connection.name,
      targets: new Map<string, Observed>(),
      principals: new Map<string, Observed>(),
    };
    this.#connections.set(connection.name, found);
    // A stream needs a publish rule for its target as well: it is evidence of both.
    note(found.targets, `${target.host}:${String(target.port)}`, past, input, address);
    if (action === 'stream' && key !== undefined) note(found.principals, key.principal, past, input, address);
  }

  all(): readonly ObservedConnection[] {
    return [...this.#connections.values()].sort((left, right) => (left.name < right.name ? -1 : 1));
  }
}

const note = (
  into: Map<string, Observed>,
  key: string,
  past: PastDecision,
  input: PolicyInputBase,
  address: string,
): void => {
  const lastInput = { ...input, target: { ...input.target, address } };
  const seen = into.get(key) ?? {
    decisions: 0,
    lastAt: past.at,
    lastInput,
    addresses: new Set<string>(),
    agents: new Set<string>(),
    sources: new Set<string>(),
    withoutSource: false,
  };
  into.set(key, seen);
  seen.decisions += past.count;
  if (past.at >= seen.lastAt) {
    seen.lastAt = past.at;
    seen.lastInput = lastInput;
  }
  for (const one of past.allowedAddresses) seen.addresses.add(one);
  seen.agents.add(input.agent.name);
  if (input.source?.address === undefined) seen.withoutSource = true;
  else seen.sources.add(input.source.address);
};
