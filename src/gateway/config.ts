import { z } from 'zod';

const NAME = /^[a-z0-9-]{1,63}$/;
const MAX_PORT = 65_535;

/** Connections whose first data link is made at start (protocol.md, Rendezvous). */
export const DEFAULT_EAGER_CONNECTIONS = 16;
/** Data links of one gateway over all connections. */
export const DEFAULT_LINK_LIMIT = 256;
/** Application sockets held by one gateway. */
export const DEFAULT_STREAM_LIMIT = 20_000;
/** From the application's connect to ACCEPT; then its socket is reset. */
export const DEFAULT_OPEN_TIMEOUT_SECONDS = 20;
/** Streams may finish this long after SIGTERM. */
export const DEFAULT_DRAIN_SECONDS = 30;

const port = z.int().min(1).max(MAX_PORT);
const seconds = z.number().positive();

/** One relay node as this process may dial it; an offer never carries an address. */
const relayNodeSchema = z.strictObject({
  host: z.string().min(1),
  control_port: port,
  data_ports: z.array(port).min(1),
});

/** Offers name a node by its host, so each node has its own. */
const relayNodesSchema = z
  .array(relayNodeSchema)
  .min(1)
  .refine(
    (nodes) => new Set(nodes.map(({ host }) => host)).size === nodes.length,
    'each relay needs its own host',
  );

const connectionSchema = z.strictObject({
  name: z.string().regex(NAME, 'lower-case letters, digits and dashes, at most 63'),
  connection_string: z.string().min(1),
  /** `ADDR:PORT` for applications; port 0 takes any free one. */
  listen: z.string().min(1),
  /** Whether the first data link is made at start; default: the first 16 connections. */
  eager: z.boolean().optional(),
});

const limitsSchema = z.strictObject({
  streams: z.int().positive().default(DEFAULT_STREAM_LIMIT),
  links: z.int().positive().default(DEFAULT_LINK_LIMIT),
  open_timeout_seconds: seconds.default(DEFAULT_OPEN_TIMEOUT_SECONDS),
  drain_seconds: seconds.default(DEFAULT_DRAIN_SECONDS),
});

const duplicates = (values: readonly string[]): number[] =>
  values.flatMap((value, index) => (values.indexOf(value) < index ? [index] : []));

/** gateway.yaml. Secrets come from `*_file` or `${ENV}`; unknown keys are errors. */
export const gatewayConfigSchema = z
  .strictObject({
    namespace: z.string().min(1),
    name: z.string().regex(NAME, 'lower-case letters, digits and dashes, at most 63'),
    state_dir: z.string().min(1),
    relays: relayNodesSchema,
    /** PEM file with the certificates that vouch for the relay; default: the system's. */
    ca_file: z.string().optional(),
    connections: z.array(connectionSchema).min(1),
    status: z.strictObject({ listen: z.string().min(1) }),
    limits: limitsSchema.default(() => limitsSchema.parse({})),
  })
  .superRefine((value, context) => {
    const listens = value.connections.map((connection) => connection.listen);
    for (const index of duplicates(listens)) {
      if (listens[index]?.endsWith(':0') === true) continue;
      context.addIssue({
        code: 'custom',
        path: ['connections', index, 'listen'],
        message: `another connection already listens on ${listens[index] ?? ''}`,
      });
    }
    for (const index of duplicates(value.connections.map((connection) => connection.name))) {
      context.addIssue({
        code: 'custom',
        path: ['connections', index, 'name'],
        message: `connection ${value.connections[index]?.name ?? ''} is there twice`,
      });
    }
  });

export type GatewayConfig = z.infer<typeof gatewayConfigSchema>;
