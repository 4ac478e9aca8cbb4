import { isNameAddress, NAME_RANGE, parseHostPort } from '../../runtime/index.ts';
import { parseTarget } from '../entrance/host-name.ts';
import { hostName, hostNameProblem } from './host-name.ts';
import type { NamedConnection } from './named-hosts.ts';

/** Hosts with an address of their own, of one gateway. */
export const MAX_NAMED_HOSTS = 4_096;

interface Connection extends NamedConnection {
  readonly listen?: string | undefined;
}

/** One thing wrong, at a key of a connection. */
export interface NameProblem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

const ANY_ADDRESS = new Set(['0.0.0.0', '::']);

const listenProblem = ({ listen }: Connection): string | undefined => {
  if (listen === undefined) return undefined;
  try {
    return isNameAddress(parseHostPort(listen).host)
      ? `${NAME_RANGE} is for transparent names, whose addresses the gateway assigns; listen elsewhere`
      : undefined;
  } catch {
    // Said when the listener is opened, as for every address.
    return undefined;
  }
};

/** What is wrong with each connection by itself. */
const ownProblems = (connection: Connection, at: readonly (string | number)[]): NameProblem[] => {
  const { target, transparent, aliases = [] } = connection;
  const problems: NameProblem[] = [];
  const add = (key: string | number, message: string | undefined, ...below: number[]): void => {
    if (message !== undefined) problems.push({ path: [...at, key, ...below], message });
  };
  add('listen', listenProblem(connection));
  if (transparent !== true) {
    if (aliases.length > 0)
      add('aliases', 'aliases are further names of a transparent target: set transparent: true');
    return problems;
  }
  if (target === undefined) add('transparent', 'which name? give target: HOST:PORT');
  else add('target', hostNameProblem(parseHostPort(target).host));
  aliases.forEach((alias, index) => add('aliases', aliasProblem(alias), index));
  return problems;
};

const aliasProblem = (alias: string): string | undefined => {
  try {
    parseHostPort(`${alias}:1`);
  } catch {
    return `${JSON.stringify(alias.slice(0, 64))} is not a host name`;
  }
  return hostNameProblem(alias);
};

/** Whose host a name is: the first connection that has it as target or alias. */
const ownersOf = (connections: readonly Connection[]): Map<string, string> => {
  const owners = new Map<string, string>();
  const hostOf = ({ target = '' }: Connection): string => hostName(parseHostPort(target).host);
  for (const connection of connections) owners.set(hostOf(connection), hostOf(connection));
  for (const connection of connections) {
    for (const alias of connection.aliases ?? []) {
      const name = hostName(alias);
      if (!owners.has(name)) owners.set(name, hostOf(connection));
    }
  }
  return owners;
};

/** What is wrong between connections whose targets and names are right by themselves. */
const sharedProblems = (connections: readonly Connection[], relays: readonly string[]): NameProblem[] => {
  const problems: NameProblem[] = [];
  const named = connections.filter(({ transparent, target }) => transparent === true && target !== undefined);
  const owners = ownersOf(named);
  if (owners.size > MAX_NAMED_HOSTS) {
    problems.push({
      path: ['connections'],
      message: `${owners.size} transparent names; a gateway has at most ${MAX_NAMED_HOSTS}`,
    });
  }
  connections.forEach((connection, index) => {
    if (!named.includes(connection)) return;
    const { host, port } = parseHostPort(connection.target ?? '');
    const at = ['connections', index];
    const relay = relays.find((one) => owners.get(hostName(one)) === hostName(host));
    if (relay !== undefined) {
      problems.push({
        path: [...at, 'target'],
        message: `'${relay}' is a relay of this gateway, which would then dial itself; publish the target under another name`,
      });
    }
    (connection.aliases ?? []).forEach((alias, aliasIndex) => {
      const owner = owners.get(hostName(alias));
      if (owner === undefined || owner === hostName(host)) return;
      problems.push({
        path: [...at, 'aliases', aliasIndex],
        message: `'${alias}' is a name of ${owner} already`,
      });
    });
    const wide = connections.find(({ listen }) => isEveryAddress(listen, port));
    if (wide !== undefined) {
      problems.push({
        path: [...at, 'target'],
        message: `connection ${wide.name} listens on every address at port ${port}, which leaves none for this name; give it one address`,
      });
    }
  });
  return problems;
};

const isEveryAddress = (listen: string | undefined, port: number): boolean => {
  try {
    const found = parseHostPort(listen ?? '');
    return ANY_ADDRESS.has(found.host) && found.port === port;
  } catch {
    return false;
  }
};

/** Everything wrong with targets, names and entrances of the connections; `relays` are the hosts that the gateway dials. */
export const nameProblems = (
  connections: readonly Connection[],
  relays: readonly string[],
): NameProblem[] => {
  // A target that is none is told by its form.
  if (connections.some(({ target }) => target !== undefined && parseTarget(target) === undefined)) return [];
  const own = connections.flatMap((connection, index) => ownProblems(connection, ['connections', index]));
  return own.length > 0 ? own : sharedProblems(connections, relays);
};
