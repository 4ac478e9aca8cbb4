import { z } from 'zod';
import { proxySettingsSchema, relayNodesSchema, tlsTrustSchema } from '../protocol/index.ts';
import { nameProblems } from './names/config-problems.ts';
import { clientsSchema, entrancesProblems, entrancesSchema, targetSchema } from './entrance-config.ts';

const NAME = /^[a-z0-9-]{1,63}$/;

/** Connections whose first data link is made at start (protocol.md, Rendezvous). */
export const DEFAULT_EAGER_CONNECTIONS = 16;
/** Data links of one gateway over all connections. */
export const DEFAULT_LINK_LIMIT = 256;
/** Application sockets held by one gateway. */
export const DEFAULT_STREAM_LIMIT = 20_000;
/** From the application's connect to ACCEPT; then its socket is reset. */
export const DEFAULT_OPEN_TIMEOUT_SECONDS = 20;
/** Further names of one target's host. */
const MAX_ALIASES = 16;
/** Streams may finish this long after SIGTERM. */
export const DEFAULT_DRAIN_SECONDS = 30;

const seconds = z.number().positive();

const connectionSchema = z.strictObject({
  name: z.string().regex(NAME, 'lower-case letters, digits and dashes, at most 63'),
  connection_string: z.string().min(1),
  /** `ADDR:PORT` for applications; port 0 takes any free one. Needed unless it is transparent or an entrance leads to it. */
  listen: z.string().min(1).optional(),
  clients: clientsSchema,
  /**
   * `HOST:PORT` by which applications ask SOCKS5 and CONNECT entrances for it; its name will do as well. Of a
   * transparent connection it pins the target: while the relay says another one, the connection is refused.
   */
  target: targetSchema.optional(),
  /** Applications reach the connection under its target's own name and port (docs/transparent-names.md). */
  transparent: z.boolean().optional(),
  /** Further names of the target's host that applications use. */
  aliases: z.array(z.string().min(1)).max(MAX_ALIASES).optional(),
  /** Whether the first data link is made at start; default: the first 16 connections. */
  eager: z.boolean().optional(),
});

const limitsSchema = z.strictObject({
  streams: z.int().positive().default(DEFAULT_STREAM_LIMIT),
  links: z.int().positive().default(DEFAULT_LINK_LIMIT),
  open_timeout_seconds: seconds.default(DEFAULT_OPEN_TIMEOUT_SECONDS),
  drain_seconds: seconds.default(DEFAULT_DRAIN_SECONDS),
});

const duplicates = (values: readonly (string | undefined)[]): number[] =>
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
    tls: tlsTrustSchema,
    /** In place of `HTTPS_PROXY` and `NO_PROXY` of the environment. */
    proxy: proxySettingsSchema.optional(),
    connections: z.array(connectionSchema).min(1),
    /** Listeners for applications that speak SOCKS5, and HTTP CONNECT. */
    socks5: entrancesSchema,
    http_connect: entrancesSchema,
    status: z.strictObject({ listen: z.string().min(1) }),
    limits: limitsSchema.default(() => limitsSchema.parse({})),
  })
  .superRefine((value, context) => {
    for (const { path, message } of entrancesProblems(value))
      context.addIssue({ code: 'custom', path, message });
    for (const index of duplicates(value.connections.map((connection) => connection.name))) {
      context.addIssue({
        code: 'custom',
        path: ['connections', index, 'name'],
        message: `connection ${value.connections[index]?.name ?? ''} is there twice`,
      });
    }
    const relays = value.relays.map(({ host }) => host);
    for (const { path, message } of nameProblems(value.connections, relays)) {
      context.addIssue({ code: 'custom', path: [...path], message });
    }
  });

export type GatewayConfig = z.infer<typeof gatewayConfigSchema>;
