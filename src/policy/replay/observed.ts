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
  /** Hours of the agents' local time in which streams were opened or open, and the local days of their opening. */
  readonly hours: Set<number>;
  readonly days: Set<string>;
}

/** A principal that was allowed, and then denied what it had been allowed: somebody took it out. */
export interface Removed {
  readonly principal: string;
  readonly lastAllowedAt: string;
  readonly deniedAt: string;
  /** Reason codes of the denial. */
  readonly reasons: readonly string[];
}

/** The newest denial by policy of one principal at one target, from one source, at one hour of workdays or weekends. */
interface Denial {
  readonly at: string;
  readonly reasons: readonly string[];
  readonly target: string;
  /** Every address that it was asked for. */
  readonly addresses: readonly string[];
  readonly source: string | undefined;
  readonly hour: number;
  readonly isWeekend: boolean;
}

const SUNDAY = 0;
const SATURDAY = 6;
const isWeekend = (date: string): boolean => [SUNDAY, SATURDAY].includes(new Date(date).getUTCDay());

/** What one connection was used for. */
export interface ObservedConnection {
  readonly name: string;
  /** By `HOST:PORT`. */
  readonly targets: Map<string, Observed>;
  /** By principal; without those that were removed. */
  readonly principals: Map<string, Observed>;
  readonly removed: readonly Removed[];
}

type Gathered = Omit<ObservedConnection, 'removed'>;

/** Gathers what recorded decisions allowed, by connection, target and principal. Memory rises with those, not with time. */
export class Observations {
  readonly #connections = new Map<string, Gathered>();
  /** By connection and principal, then by what was denied. */
  readonly #denials = new Map<string, Map<string, Denial>>();
  decisions = 0;

  /** Denials say nothing of what is needed, but whom policy keeps out by now. */
  add(past: PastDecision): void {
    if (!past.allow) {
      this.#addDenial(past);
      return;
    }
    const [address] = past.allowedAddresses;
    if (past.input === undefined || address === undefined) return;
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

  /** Hours that streams of a principal lasted into; of a principal that nothing was allowed for they say nothing. */
  addHours(connection: string, principal: string, hours: readonly number[]): void {
    const seen = this.#connections.get(connection)?.principals.get(principal);
    for (const hour of hours) seen?.hours.add(hour);
  }

  all(): readonly ObservedConnection[] {
    return [...this.#connections.values()]
      .map((seen): ObservedConnection => {
        const removed = [...seen.principals].flatMap(([principal, observed]) => {
          const denial = this.#removalOf(seen, principal, observed);
          const { lastAt: lastAllowedAt } = observed;
          return denial === undefined
            ? []
            : [{ principal, lastAllowedAt, deniedAt: denial.at, reasons: denial.reasons }];
        });
        const out = new Set(removed.map(({ principal }) => principal));
        const principals = new Map([...seen.principals].filter(([principal]) => !out.has(principal)));
        return { ...seen, principals, removed };
      })
      .sort((left, right) => (left.name < right.name ? -1 : 1));
  }

  #addDenial({ at, input, decidedBy, reasons }: PastDecision): void {
    if (decidedBy !== 'policy' || input === undefined) return;
    const { action, connection, target, key, source, time } = JSON.parse(input) as PolicyInputBase;
    if (action !== 'stream' || key === undefined) return;
    const whose = JSON.stringify([connection.name, key.principal]);
    const denials = this.#denials.get(whose) ?? new Map<string, Denial>();
    this.#denials.set(whose, denials);
    const denial: Denial = {
      at,
      reasons: [...new Set(reasons)],
      target: `${target.host}:${String(target.port)}`,
      addresses: target.addresses,
      source: source?.address,
      hour: time.local.hour,
      isWeekend: isWeekend(time.local.date),
    };
    const what = JSON.stringify([
      denial.target,
      denial.addresses,
      denial.source,
      denial.hour,
      denial.isWeekend,
    ]);
    if (at >= (denials.get(what)?.at ?? '')) denials.set(what, denial);
  }

  /** The newest denial of what a principal had been allowed before: not of another target, address or source, not before or after its hours, not at weekends where it worked on workdays. */
  #removalOf(seen: Gathered, principal: string, observed: Observed): Denial | undefined {
    const kinds = new Set([...observed.days].map(isWeekend));
    const first = Math.min(...observed.hours);
    const last = Math.max(...observed.hours);
    return [...(this.#denials.get(JSON.stringify([seen.name, principal]))?.values() ?? [])]
      .filter(
        ({ at, target, addresses, source, hour, isWeekend: kind }) =>
          at > observed.lastAt &&
          seen.targets.has(target) &&
          addresses.every((address) => observed.addresses.has(address)) &&
          (source === undefined ? observed.withoutSource : observed.sources.has(source)) &&
          hour >= first &&
          hour <= last &&
          kinds.has(kind),
      )
      .sort((left, right) => (left.at < right.at ? 1 : -1))[0];
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
    hours: new Set<number>(),
    days: new Set<string>(),
  };
  into.set(key, seen);
  seen.decisions += past.count;
  if (past.at >= seen.lastAt) {
    seen.lastAt = past.at;
    seen.lastInput = lastInput;
  }
  for (const one of past.allowedAddresses) seen.addresses.add(one);
  seen.agents.add(input.agent.name);
  seen.hours.add(input.time.local.hour);
  seen.days.add(input.time.local.date);
  if (input.source?.address === undefined) seen.withoutSource = true;
  else seen.sources.add(input.source.address);
};
