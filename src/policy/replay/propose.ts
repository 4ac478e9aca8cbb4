import { stringify } from 'yaml';
import { referenceOf } from '../tool/rego-name.ts';
import { networksOf } from './networks.ts';
import type { Observed, ObservedConnection } from './observed.ts';

export interface ProposalOptions {
  /** Owner of every proposed rule. */
  readonly owner: string;
  /** First UTC day on which no proposed rule is live any more, `YYYY-MM-DD`. */
  readonly expires: string;
}

/** One connection's allow-list and the vectors that hold it to what was seen. */
export interface Proposal {
  readonly connection: string;
  readonly rego: string;
  readonly vectors: string;
  readonly rules: number;
}

/** Elements of a set that stand on one line. */
const MAX_INLINE = 3;
const NOBODY = 'nobody';
/** Neighbours of what was seen, of which the first that was not seen itself is denied in a vector. */
const OTHER_PORTS = [22, 23, 9];
/** RFC 5737. */
const OTHER_SOURCES = ['192.0.2.1', '198.51.100.1', '203.0.113.1'];
const SITE_PARTS = 2;

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

const metadata = (id: string, title: string, { owner, expires }: ProposalOptions): string =>
  `# METADATA\n# title: ${JSON.stringify(title)}\n# custom: {id: ${id}, owner: ${JSON.stringify(owner)}, ticket: none, expires: ${expires}}\n`;

const seenTimes = ({ decisions, lastAt }: Observed): string =>
  `# Seen ${String(decisions)} times, last ${lastAt}.\n`;

interface Rule {
  readonly id: string;
  readonly text: string;
  readonly vectors: readonly object[];
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

const publishRule = (
  connection: string,
  target: string,
  seen: Observed,
  id: string,
  options: ProposalOptions,
  ports: ReadonlySet<number>,
): Rule => {
  const { host, port } = seen.lastInput.target;
  const otherPort = OTHER_PORTS.find((one) => !ports.has(one)) ?? port + 1;
  const text = `${seenTimes(seen)}${metadata(id, `Agents publish ${target} as ${connection}`, options)}publish${referenceOf(connection)} contains rego.metadata.rule() if {
	request.target_is(${JSON.stringify(host)}, ${String(port)})
${agentIs(seen.agents)}
${addressIn(networksOf(seen.addresses))}
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
  return {
    id,
    text,
    vectors: [
      { name: `${id} was published`, input, expect: { allow: true } },
      {
        name: `${id} is no other port`,
        input: { ...input, target: { ...input.target, port: otherPort } },
        expect: { allow: false },
      },
    ],
  };
};

/** An address of a network that nothing came from, however wide the sources are made. */
const unseenSource = (sources: ReadonlySet<string>): string | undefined => {
  const site = (address: string): string => address.split('.').slice(0, SITE_PARTS).join('.');
  const seen = new Set([...sources].map(site));
  return OTHER_SOURCES.find((address) => !seen.has(site(address)));
};

const streamRule = (
  connection: string,
  principal: string,
  seen: Observed,
  id: string,
  options: ProposalOptions,
): Rule => {
  const bySource = !seen.withoutSource;
  const from = bySource ? `\n\trequest.from_any(${setOf(networksOf(seen.sources), '\t')})` : '';
  const hint = bySource ? '' : '# Some came without an observed source, so none is asked for.\n';
  const text = `${seenTimes(seen)}${hint}${metadata(id, `${principal} opens streams to ${connection}`, options)}stream${referenceOf(connection)} contains rego.metadata.rule() if {
	input.key.principal == ${JSON.stringify(principal)}${from}
}
`;
  const { lastInput } = seen;
  const { key } = lastInput;
  const nowhere = unseenSource(seen.sources);
  const denied = [
    { name: `${id} is for nobody else`, input: { ...lastInput, key: { ...key, principal: NOBODY } } },
    ...(bySource && nowhere !== undefined
      ? [
          {
            name: `${id} is from nowhere else`,
            input: { ...lastInput, source: { ...lastInput.source, address: nowhere } },
          },
        ]
      : []),
  ];
  return {
    id,
    text,
    vectors: [
      { name: `${id} was opened`, input: lastInput, expect: { allow: true } },
      ...denied.map((vector) => ({ ...vector, expect: { allow: false } })),
    ],
  };
};

/**
 * The narrowest allow-lists that allow what was seen on connections: their targets at the addresses that they had, from
 * the agents that published them, for each principal from the sources that it came from. Hours are not restricted. No
 * two rules of one call have the same id.
 */
export const propose = (seen: readonly ObservedConnection[], options: ProposalOptions): Proposal[] => {
  const idOf = uniqueIds();
  return seen.map((connection) => proposalOf(connection, options, idOf));
};

const proposalOf = (
  seen: ObservedConnection,
  options: ProposalOptions,
  idOf: (wanted: string) => string,
): Proposal => {
  const { name } = seen;
  const ports = new Set([...seen.targets.values()].map(({ lastInput }) => lastInput.target.port));
  const rules = [
    ...[...seen.targets].sort(byKey).map(([target, observed]) => {
      return publishRule(name, target, observed, idOf(`${name}-publish`), options, ports);
    }),
    ...[...seen.principals].sort(byKey).map(([principal, observed]) => {
      return streamRule(name, principal, observed, idOf(`${name}-${slug(principal)}`), options);
    }),
  ];
  const rego = `# Who may reach ${name}, as recorded traffic has it: what was used, and nothing else.
package sallyport.allow

import data.sallyport.request

${rules.map(({ text }) => text).join('\n')}`;
  const vectors = `# What was seen, and neighbours of it that were not.\n${stringify(
    rules.flatMap((rule) => rule.vectors),
    { aliasDuplicateObjects: false, lineWidth: 0 },
  )}`;
  return { connection: name, rego, vectors, rules: rules.length };
};

const byKey = ([left]: readonly [string, unknown], [right]: readonly [string, unknown]): number =>
  left < right ? -1 : 1;
