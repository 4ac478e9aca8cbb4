import { stringify } from 'yaml';
import { referenceOf } from '../tool/rego-name.ts';
import { HOURS_OF_DAY, neighbourAddress, neighbourHour, neighbourName, neighbourPort } from './neighbours.ts';
import { networksOf } from './networks.ts';
import type { Observed, ObservedConnection, Removed } from './observed.ts';

export interface ProposalOptions {
  /** Owner of every proposed rule. */
  readonly owner: string;
  /** First UTC day on which no proposed rule is live any more, `YYYY-MM-DD`. */
  readonly expires: string;
  /** Whether principals are held to the local hours in which their streams were open. */
  readonly hours: 'seen' | 'any';
}

/** One connection's allow-list and the vectors that hold it to what was seen. */
export interface Proposal {
  readonly connection: string;
  readonly rego: string;
  readonly vectors: string;
  readonly rules: number;
  /** Ids of the rules whose hours rest on less than a week of days. */
  readonly rarelySeen: readonly string[];
  /** Principals that were removed meanwhile, and have no rule. */
  readonly removed: readonly Removed[];
}

/** Elements of a set that stand on one line. */
const MAX_INLINE = 3;
/** Days of use below which hours are called a guess: a week has every kind of day once. */
const WEEK_DAYS = 7;

const slug = (text: string): string =>
  text
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replaceAll(/^-|-$/g, '');

/** A set as `opa fmt` writes it. */
const setOf = (members: Iterable<string>, indent: string): string => {
  const texts = [...members].sort().map((member) => JSON.stringify(member));
  if (texts.length <= MAX_INLINE) return `{${texts.join(', ')}}`;
  return `{\n${texts.map((text) => `${indent}\t${text},\n`).join('')}${indent}}`;
};

const without = (input: object, names: readonly string[]): object =>
  Object.fromEntries(Object.entries(input).filter(([name]) => !names.includes(name)));

const agentIs = (names: ReadonlySet<string>): string => {
  const [only] = names;
  return names.size === 1 && only !== undefined
    ? `\tinput.agent.name == ${JSON.stringify(only)}`
    : `\tinput.agent.name in ${setOf(names, '\t')}`;
};

const addressIn = (networks: readonly string[]): string => {
  const [only] = networks;
  return networks.length === 1 && only !== undefined
    ? `\tnet.cidr_contains(${JSON.stringify(only)}, input.target.address)`
    : `\tsome network in ${setOf(networks, '\t')}\n\tnet.cidr_contains(network, input.target.address)`;
};

/** Hours as a range where they follow one another; a night that goes past midnight is a set. Empty for all hours. */
const hourIn = (hours: ReadonlySet<number>): string => {
  const sorted = [...hours].sort((left, right) => left - right);
  if (sorted.length === HOURS_OF_DAY) return '';
  const [first = 0] = sorted;
  const end = (sorted.at(-1) ?? 0) + 1;
  if (end - first !== sorted.length) return `\n\tinput.time.local.hour in {${sorted.join(', ')}}`;
  return [
    first === 0 ? '' : `\n\tinput.time.local.hour >= ${String(first)}`,
    end === HOURS_OF_DAY ? '' : `\n\tinput.time.local.hour < ${String(end)}`,
  ].join('');
};

const metadata = (id: string, title: string, { owner, expires }: ProposalOptions): string =>
  `# METADATA\n# title: ${JSON.stringify(title)}\n# custom: {id: ${id}, owner: ${JSON.stringify(owner)}, ticket: none, expires: ${expires}}\n`;

const seenTimes = ({ decisions, lastAt, days }: Observed): string =>
  `# Seen ${String(decisions)} times on ${String(days.size)} days, last ${lastAt}.\n`;

interface Rule {
  readonly id: string;
  readonly text: string;
  readonly vectors: readonly object[];
  readonly isRare?: boolean;
}

/** Ids that are each used once. */
const uniqueIds = (): ((wanted: string) => string) => {
  const taken = new Set<string>();
  return (wanted) => {
    let id = wanted;
    for (let number = 2; taken.has(id); number += 1) id = `${wanted}-${String(number)}`;
    taken.add(id);
    return id;
  };
};

/** What of the traffic a neighbour must not be. */
interface Known {
  readonly connections: ReadonlySet<string>;
  readonly hosts: ReadonlySet<string>;
  readonly ports: ReadonlySet<number>;
  readonly principals: ReadonlyMap<string, unknown>;
}

interface Vector {
  readonly name: string;
  readonly input: object;
}

const allowed = (vector: Vector): object => ({ ...vector, expect: { allow: true } });
const denied = (vectors: readonly Vector[]): object[] =>
  vectors.map((vector) => ({ ...vector, expect: { allow: false } }));

const publishRule = (
  connection: string,
  target: string,
  seen: Observed,
  id: string,
  options: ProposalOptions,
  known: Known,
): Rule => {
  const { host, port, address } = seen.lastInput.target;
  const networks = networksOf(seen.addresses);
  const text = `${seenTimes(seen)}${metadata(id, `Agents publish ${target} as ${connection}`, options)}publish${referenceOf(connection)} contains rego.metadata.rule() if {
	request.target_is(${JSON.stringify(host)}, ${String(port)})
${agentIs(seen.agents)}
${addressIn(networks)}
}
`;
  const { lastInput } = seen;
  const { connection: connectionUse, agent: agentUse } = lastInput.usage;
  // A publish has no key, no source, no link and no stream.
  const input = {
    ...without(lastInput, ['key', 'source', 'link', 'stream']),
    action: 'publish',
    usage: { connection: connectionUse, agent: agentUse },
    target: lastInput.target,
  };
  const targetInput = (change: object): object => ({ ...input, target: { ...input.target, ...change } });
  const agent = { ...lastInput.agent, name: neighbourName(lastInput.agent.name, seen.agents) };
  const elsewhere = neighbourAddress(address, networks);
  return {
    id,
    text,
    vectors: [
      allowed({ name: `${id} was published`, input }),
      ...denied([
        {
          name: `${id} is no other connection`,
          input: { ...input, connection: otherConnection(seen, known) },
        },
        {
          name: `${id} is no other target`,
          input: targetInput({ host: neighbourName(host, known.hosts) }),
        },
        { name: `${id} is no other port`, input: targetInput({ port: neighbourPort(port, known.ports) }) },
        ...(elsewhere === undefined
          ? []
          : [{ name: `${id} is at no other address`, input: targetInput({ address: elsewhere }) }]),
        { name: `${id} is by no other agent`, input: { ...input, agent } },
      ]),
    ],
  };
};

const otherConnection = ({ lastInput: { connection } }: Observed, { connections }: Known): object => ({
  ...connection,
  name: neighbourName(connection.name, connections),
});

const streamRule = (
  connection: string,
  principal: string,
  seen: Observed,
  id: string,
  options: ProposalOptions,
  known: Known,
): Rule => {
  const { lastInput } = seen;
  const { key, source, time } = lastInput;
  const networks = seen.withoutSource ? undefined : networksOf(seen.sources);
  const from = networks === undefined ? '' : `\n\trequest.from_any(${setOf(networks, '\t')})`;
  const hint =
    networks === undefined ? '# Some came without an observed source, so none is asked for.\n' : '';
  const hours = options.hours === 'seen' ? hourIn(seen.hours) : '';
  const isRare = hours !== '' && seen.days.size < WEEK_DAYS;
  const guess = isRare
    ? '# Less than a week of days: whether the hours are all it needs is not known.\n'
    : '';
  const text = `${seenTimes(seen)}${guess}${hint}${metadata(id, `${principal} opens streams to ${connection}`, options)}stream${referenceOf(connection)} contains rego.metadata.rule() if {
	input.key.principal == ${JSON.stringify(principal)}${from}${hours}
}
`;
  const nowhere =
    networks === undefined || source?.address === undefined
      ? undefined
      : neighbourAddress(source.address, networks);
  const never = hours === '' ? undefined : neighbourHour(time.local.hour, seen.hours);
  return {
    id,
    text,
    isRare,
    vectors: [
      allowed({ name: `${id} was opened`, input: lastInput }),
      ...denied([
        {
          name: `${id} is for no other connection`,
          input: { ...lastInput, connection: otherConnection(seen, known) },
        },
        {
          name: `${id} is for nobody else`,
          input: { ...lastInput, key: { ...key, principal: neighbourName(principal, known.principals) } },
        },
        ...(nowhere === undefined
          ? []
          : [
              {
                name: `${id} is from nowhere else`,
                input: { ...lastInput, source: { ...source, address: nowhere } },
              },
            ]),
        ...(never === undefined
          ? []
          : [
              {
                name: `${id} is at no other hour`,
                input: { ...lastInput, time: { ...time, local: { ...time.local, hour: never } } },
              },
            ]),
      ]),
    ],
  };
};

/**
 * The narrowest allow-lists that allow what was seen on connections: their targets at the addresses that they had, from
 * the agents that published them, for each principal from the sources that it came from, at the local hours in which its
 * streams were open. For each of these a vector holds that a neighbour of what was seen is denied. No two rules of one
 * call have the same id.
 */
export const propose = (seen: readonly ObservedConnection[], options: ProposalOptions): Proposal[] => {
  const idOf = uniqueIds();
  const connections = new Set(seen.map(({ name }) => name));
  return seen.map((connection) => proposalOf(connection, options, connections, idOf));
};

const leftOut = ({ principal, lastAllowedAt, deniedAt, reasons }: Removed): string =>
  `\n# Left out: ${JSON.stringify(principal)}, allowed last ${lastAllowedAt}, and denied the same ${deniedAt} (${reasons.join(', ')}).\n`;

const proposalOf = (
  seen: ObservedConnection,
  options: ProposalOptions,
  connections: ReadonlySet<string>,
  idOf: (wanted: string) => string,
): Proposal => {
  const { name } = seen;
  const targets = [...seen.targets.values()].map(({ lastInput }) => lastInput.target);
  const known: Known = {
    connections,
    hosts: new Set(targets.map(({ host }) => host)),
    ports: new Set(targets.map(({ port }) => port)),
    principals: seen.principals,
  };
  const rules = [
    ...[...seen.targets].sort(byKey).map(([target, observed]) => {
      return publishRule(name, target, observed, idOf(`${name}-publish`), options, known);
    }),
    ...[...seen.principals].sort(byKey).map(([principal, observed]) => {
      return streamRule(name, principal, observed, idOf(`${name}-${slug(principal)}`), options, known);
    }),
  ];
  const rego = `# Who may reach ${name}, as recorded traffic has it: what was used, and nothing else.
package sallyport.allow

import data.sallyport.request

${rules.map(({ text }) => text).join('\n')}${seen.removed.map(leftOut).join('')}`;
  const vectors = `# What was seen, and neighbours of it that were not.\n${stringify(
    rules.flatMap((rule) => rule.vectors),
    { aliasDuplicateObjects: false, lineWidth: 0 },
  )}`;
  const rarelySeen = rules.filter(({ isRare }) => isRare === true).map(({ id }) => id);
  return { connection: name, rego, vectors, rules: rules.length, rarelySeen, removed: seen.removed };
};

const byKey = ([left]: readonly [string, unknown], [right]: readonly [string, unknown]): number =>
  left < right ? -1 : 1;
