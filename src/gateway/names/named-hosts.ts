import { formatHostPort, parseHostPort } from '../../runtime/index.ts';
import { hostName } from './host-name.ts';

/** A port of a host, and the connection that it leads to. */
export interface NamedPort {
  readonly port: number;
  readonly connection: string;
}

/** A host that applications reach under its own name. */
export interface NamedHost {
  readonly host: string;
  /** The host and its aliases as a hosts file has them: the fullest name first, because that is the canonical one. */
  readonly names: readonly string[];
  readonly ports: readonly NamedPort[];
}

/** What a connection of gateway.yaml says of names. */
export interface NamedConnection {
  readonly name: string;
  readonly target?: string | undefined;
  readonly transparent?: boolean | undefined;
  readonly aliases?: readonly string[] | undefined;
}

/** `HOST:PORT` in the form in which targets are compared. @throws AppError ERR_CONFIG_HOST_PORT */
export const targetText = (target: string): string => {
  const { host, port } = parseHostPort(target);
  return formatHostPort({ host: hostName(host), port });
};

/** The targets of the transparent connections, by connection, in that form. @throws AppError ERR_CONFIG_HOST_PORT */
export const pinnedTargets = (connections: readonly NamedConnection[]): ReadonlyMap<string, string> =>
  new Map(
    connections.flatMap(({ name, target, transparent }) =>
      target === undefined || transparent !== true ? [] : [[name, targetText(target)] as const],
    ),
  );

const fullness = (name: string): number => name.split('.').length;

/** The hosts of the connections that are transparent, in the order of their first connection. */
export const namedHosts = (connections: readonly NamedConnection[]): NamedHost[] => {
  const hosts = new Map<string, { names: Set<string>; ports: NamedPort[] }>();
  for (const { name: connection, target, transparent, aliases = [] } of connections) {
    if (transparent !== true || target === undefined) continue;
    const { host: written, port } = parseHostPort(target);
    const host = hostName(written);
    const found = hosts.get(host) ?? { names: new Set([host]), ports: [] };
    for (const alias of aliases) found.names.add(hostName(alias));
    found.ports.push({ port, connection });
    hosts.set(host, found);
  }
  return [...hosts].map(([host, { names, ports }]) => ({
    host,
    // Sorting is stable: among equally full names the host stays first.
    names: [...names].sort((left, right) => fullness(right) - fullness(left)),
    ports,
  }));
};
