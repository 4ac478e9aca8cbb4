import { z } from 'zod';

const MAX_PORT = 65_535;
/** Ports of one kind of one node. */
export const MAX_PORTS = 8;

const port = z.int().min(1).max(MAX_PORT);
const ports = z.array(port).min(1).max(MAX_PORTS);

/** A port, or several in the order in which they are tried. */
export const portsSchema = z.union([port, ports]);

/** One relay node as a process may dial it; an offer never carries an address. */
const relayNodeSchema = z.strictObject({
  host: z.string().min(1),
  control_port: portsSchema,
  data_ports: ports,
  /** Default: 443 if it is among the others, else the last one of `control_port`. */
  websocket_port: port.optional(),
});

/** `relays` of agent.yaml and gateway.yaml. Offers name a node by its host, so each node has its own. */
export const relayNodesSchema = z
  .array(relayNodeSchema)
  .min(1)
  .refine(
    (nodes) => new Set(nodes.map(({ host }) => host)).size === nodes.length,
    'each relay needs its own host',
  );
