import type { RelayNodeConfig } from '../link/offer.ts';

/** How the bytes of a data link come to a node: over TCP as they are, or in messages of a WebSocket over TLS. */
export const CARRIER_KINDS = ['tcp', 'websocket'] as const;
export type CarrierKind = (typeof CARRIER_KINDS)[number];

/** One way to bring a data link to a node. */
export interface CarrierChoice {
  readonly kind: CarrierKind;
  readonly port: number;
}

const HTTPS_PORT = 443;

/** The ports for control links, the preferred one first. */
export const controlPorts = ({ control_port: ports }: RelayNodeConfig): readonly number[] =>
  typeof ports === 'number' ? [ports] : ports;

/**
 * The port of the WebSocket carrier where the configuration names none: 443 when the node is dialled there anyway, else
 * the last one for control links, which are WebSockets too.
 */
const webSocketPort = (node: RelayNodeConfig): number => {
  const ports = controlPorts(node);
  const isHttpsUsed = ports.includes(HTTPS_PORT) || node.data_ports.includes(HTTPS_PORT);
  return isHttpsUsed ? HTTPS_PORT : (ports.at(-1) ?? HTTPS_PORT);
};

/** The carriers of a node's data links in the order of preference: TCP at each port, then the WebSocket. */
export const carrierChoices = (node: RelayNodeConfig): readonly CarrierChoice[] => [
  ...[...new Set(node.data_ports)].map((port) => ({ kind: 'tcp' as const, port })),
  { kind: 'websocket', port: node.websocket_port ?? webSocketPort(node) },
];

/** How many links there are, by carrier and state; what is being opened has no carrier yet. */
export const linkCounts = (
  links: readonly { readonly carrier: CarrierKind }[],
  openingCount: number,
): { carrier: CarrierKind | 'unknown'; state: string; count: number }[] => [
  ...CARRIER_KINDS.map((kind) => ({
    carrier: kind,
    state: 'up',
    count: links.filter(({ carrier }) => carrier === kind).length,
  })),
  { carrier: 'unknown', state: 'opening', count: openingCount },
];

/** Every port of a node that this process may dial, each once. */
export const portsOf = (node: RelayNodeConfig): readonly number[] => [
  ...new Set([...controlPorts(node), ...carrierChoices(node).map(({ port }) => port)]),
];
