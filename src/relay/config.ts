import { z } from 'zod';
import { checkpointSettings, sinkFields } from '../audit/index.ts';
import { portsSchema } from '../protocol/index.ts';
import { CUT_AFTER_MS, FENCE_AFTER_MS } from './fence.ts';
import { MAX_WORKERS } from './workers/pipe-workers.ts';
import { MAX_TRUSTED_PROXIES, PROXY_SENDS, proxyAddressProblem, repeatedProxies } from './trusted-proxies.ts';

const MAX_PORT = 65_535;
const port = z.int().min(1).max(MAX_PORT);
const hostPort = z.string().regex(/^.+:\d{1,5}$/, 'HOST:PORT');

/** Where a node's ends find it; `host` is what offers name. */
const publicSchema = z.strictObject({
  host: z.string().min(1).max(253),
  /** The first is the one that connection strings name. */
  control_port: portsSchema,
  data_ports: z.array(port).min(1).max(8),
  websocket_port: port.optional(),
});

const controlSchema = z.strictObject({
  database_url: z.string().min(1),
  /** A direct connection for LISTEN when `database_url` goes through a transaction pooler. */
  listen_url: z.string().min(1).optional(),
  keyring_file: z.string().min(1),
  /** After this time without the control database nothing is admitted. */
  fence_after_seconds: z
    .number()
    .positive()
    .default(FENCE_AFTER_MS / 1000),
  /** After this time links are cut whose agents hear no healthy node either. */
  cut_after_seconds: z.union([z.number().positive(), z.literal('never')]).default(CUT_AFTER_MS / 1000),
});

const auditSchema = z.strictObject({
  database_url: z.string().min(1).optional(),
  spool_dir: z.string().min(1),
  key_file: z.string().min(1),
  jsonl_dir: z.string().min(1).optional(),
  ...sinkFields,
  /** Trust file with the operators whose requests for retention are recorded. */
  trust_file: z.string().min(1).optional(),
  ...checkpointSettings,
  mode: z.enum(['enforced', 'best_effort']).default('enforced'),
  max_spool_bytes: z.int().positive().optional(),
});

const proxyAddress = z.string().superRefine((text, context) => {
  const message = proxyAddressProblem(text);
  if (message !== undefined) context.addIssue({ code: 'custom', message });
});

/** Proxies whose word about a connection's source is believed, and how they give it (docs/adr/0016). */
const trustedProxiesSchema = z
  .array(z.union([proxyAddress, z.strictObject({ address: proxyAddress, sends: z.enum(PROXY_SENDS) })]))
  .max(MAX_TRUSTED_PROXIES)
  .superRefine((proxies, context) => {
    for (const { index, range } of repeatedProxies(proxies))
      context.addIssue({ code: 'custom', path: [index], message: `${range} is listed twice` });
  });

/** relay.yaml. Secrets come from `*_file` or `${ENV}`; unknown keys are errors. */
export const relayConfigSchema = z.strictObject({
  namespace: z.string().min(1).max(253),
  /** Name of this node, unique among the nodes. */
  node: z.string().min(1).max(128),
  state_dir: z.string().min(1),
  /** Each address serves everything: data links, control links, probes. */
  listen: z.array(hostPort).min(1).max(8),
  tls: z.strictObject({ cert_file: z.string().min(1), key_file: z.string().min(1) }),
  public: publicSchema,
  admin: z.strictObject({
    listen: hostPort,
    /** Host names that a request may name besides the listener's own. */
    allowed_hosts: z.array(z.string()).default([]),
  }),
  status: z.strictObject({ listen: hostPort }),
  control: controlSchema,
  audit: auditSchema,
  /** Processes beside the node's own that copy the bytes of data links; 0: the node does it itself. */
  workers: z.int().min(0).max(MAX_WORKERS).default(0),
  /** Behind any other proxy the source is the proxy. */
  trusted_proxies: trustedProxiesSchema.default([]),
  /** Links may go on this long after SIGTERM. */
  drain_seconds: z.number().positive().default(30),
});

export type RelayConfig = z.output<typeof relayConfigSchema>;
