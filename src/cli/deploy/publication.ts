import { isConnectionName } from '../../identity/index.ts';
import { AppError, formatHostPort, type HostPort, parseHostPort } from '../../runtime/index.ts';

/** A connection as `--publish` names it. */
export interface Publication {
  readonly name: string;
  readonly target: HostPort;
}

const split = (option: string, text: string): { name: string; address: HostPort } => {
  const at = text.indexOf('=');
  const name = text.slice(0, Math.max(at, 0));
  if (at === -1 || !isConnectionName(name)) {
    throw new AppError(
      'ERR_CLI_USAGE',
      `${option} ${JSON.stringify(text)}: write NAME=HOST:PORT, the name of lower-case letters, digits and dashes (at most 63)`,
    );
  }
  return { name, address: parseHostPort(text.slice(at + 1)) };
};

/**
 * Reads every `--publish NAME=HOST:PORT`.
 * @throws AppError ERR_CLI_USAGE, ERR_CONFIG_HOST_PORT
 */
export const parsePublications = (texts: readonly string[]): Publication[] => {
  const seen = new Set<string>();
  return texts.map((text) => {
    const { name, address } = split('--publish', text);
    if (address.port === 0) {
      throw new AppError('ERR_CLI_USAGE', `--publish ${text}: a target has a port of 1 to 65535`);
    }
    if (seen.has(name)) throw new AppError('ERR_CLI_USAGE', `--publish names ${name} twice`);
    seen.add(name);
    return { name, target: address };
  });
};

/**
 * Reads every `--listen NAME=ADDR:PORT`; each name must be one that is published.
 * @throws AppError ERR_CLI_USAGE, ERR_CONFIG_HOST_PORT
 */
export const parseListens = (
  texts: readonly string[],
  published: readonly string[],
): ReadonlyMap<string, HostPort> => {
  const listens = new Map<string, HostPort>();
  for (const text of texts) {
    const { name, address } = split('--listen', text);
    if (!published.includes(name)) {
      throw new AppError(
        'ERR_CLI_USAGE',
        `--listen names ${name}, which is not published (published: ${published.join(', ')})`,
      );
    }
    if (listens.has(name)) throw new AppError('ERR_CLI_USAGE', `--listen names ${name} twice`);
    listens.set(name, address);
  }
  const addresses = [...listens.values()].filter((address) => address.port !== 0).map(formatHostPort);
  const twice = addresses.find((address, index) => addresses.indexOf(address) !== index);
  if (twice !== undefined) throw new AppError('ERR_CLI_USAGE', `--listen gives ${twice} to two connections`);
  return listens;
};

/** A relay node as `--node` names it. */
export interface NamedNode {
  readonly name: string;
  readonly host: string;
}

/**
 * Reads every `--node NAME=HOST`. Each node has a host of its own, by which agents and gateways dial it.
 * @throws AppError ERR_CLI_USAGE, ERR_CONFIG_HOST_PORT
 */
export const parseNodes = (texts: readonly string[]): NamedNode[] => {
  const nodes: NamedNode[] = [];
  for (const text of texts) {
    const at = text.indexOf('=');
    const name = text.slice(0, Math.max(at, 0));
    if (at === -1 || !isConnectionName(name)) {
      throw new AppError(
        'ERR_CLI_USAGE',
        `--node ${JSON.stringify(text)}: write NAME=HOST, the name of lower-case letters, digits and dashes (at most 63)`,
      );
    }
    const { host } = parseHostPort(`${text.slice(at + 1)}:1`);
    const twice = nodes.find((node) => node.name === name || node.host === host);
    if (twice !== undefined) {
      throw new AppError(
        'ERR_CLI_USAGE',
        `--node ${text}: ${twice.name === name ? `the name ${name}` : `the host ${host}`} is given twice; each node has its own`,
      );
    }
    nodes.push({ name, host });
  }
  return nodes;
};

/** Collects an option that may be given several times. */
export const collect = (value: string, before: readonly string[] = []): readonly string[] => [
  ...before,
  value,
];
