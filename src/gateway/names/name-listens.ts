import { formatHostPort, parseHostPort } from '../../runtime/index.ts';
import type { AddressedHost } from './names.ts';

/** A listener under a target's own name and port. */
export interface NameListen {
  /** `ADDR:PORT`. */
  readonly listen: string;
  /** The names that lead there, the fullest first. */
  readonly names: readonly string[];
}

/** Where one connection is reached under its target's names. */
export const nameListens = (connection: string, hosts: readonly AddressedHost[]): NameListen[] =>
  hosts.flatMap(({ address, names, ports }) =>
    ports
      .filter((port) => port.connection === connection)
      .map(({ port }) => ({ listen: formatHostPort({ host: address, port }), names })),
  );

/** What to do about an address of a name that cannot be bound; empty when nothing is known. */
export const bindRemedy = (code: string | undefined, listen: string): string => {
  const { host, port } = parseHostPort(listen);
  switch (code) {
    case 'EACCES':
      return `; it is the target's own port, so give the process the right: AmbientCapabilities=CAP_NET_BIND_SERVICE in its systemd unit, setcap cap_net_bind_service=+ep on its node, or sysctl net.ipv4.ip_unprivileged_port_start=${port}`;
    case 'EADDRNOTAVAIL':
      return `; on macOS: sudo ifconfig lo0 alias ${host} up`;
    case 'EADDRINUSE':
      return `: a second gateway, or a server that listens on every address at port ${port} (give that one its own address)`;
    default:
      return '';
  }
};
