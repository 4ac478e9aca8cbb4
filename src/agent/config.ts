import { z } from 'zod';
import { checkpointSettings, sinkFields } from '../audit/index.ts';
import { bundleKeySchema } from '../policy/index.ts';
import {
  proxyAddressSchema,
  proxySettingsSchema,
  relayNodesSchema,
  tlsTrustSchema,
} from '../protocol/index.ts';
import { isServiceAddress, parseHostPort, SERVICE_ADDRESS_FORM } from '../runtime/index.ts';

/** Longest connection, agent and gateway name (product.md: `[a-z0-9-]{1,63}`). */
const NAME = /^[a-z0-9-]{1,63}$/;
const MAX_PORT = 65_535;

/** Streams of one agent over all connections. */
export const DEFAULT_STREAM_LIMIT = 20_000;
/** Live data links of one agent (protocol.md, Rendezvous). */
export const DEFAULT_LINK_LIMIT = 4_096;
/** From OPEN to ACCEPT: resolving, deciding, recording and dialling together. */
export const DEFAULT_OPEN_TIMEOUT_SECONDS = 15;
/** One connect() to one address. */
export const DEFAULT_CONNECT_TIMEOUT_SECONDS = 5;
/** Streams may finish this long after SIGTERM (protocol.md, Liveness). */
export const DEFAULT_DRAIN_SECONDS = 30;
/** Keys that sign bundles: today's, and those that take over or give way. */
const MAX_BUNDLE_KEYS = 16;
/** `bundle_url` is asked again after a random time between these. */
const DEFAULT_MIN_POLL_SECONDS = 30;
const DEFAULT_MAX_POLL_SECONDS = 60;
const MAX_LONG_POLL_SECONDS = 600;
/** The status of a bundle is reported this often when nothing changes. */
const DEFAULT_REPORT_SECONDS = 60;
/** The policy root, which is what every bundle here holds. */
const DEFAULT_BUNDLE_NAME = 'sallyport';
const MAX_BUNDLE_NAME = 256;
const PARTITION = /^[\w.-]{1,128}$/;
/** policy.md, Bundles: max_close. */
const DEFAULT_MAX_CLOSE_PERCENT = 20;
const PERCENT = 100;
/** operations.md, When the audit database is away. */
const DEFAULT_SHARE_FROM_PERCENT = 75;

/** Between two probes of a target: what a server notices of them, and what is still news. */
const MIN_PROBE_SECONDS = 5;
const MAX_PROBE_SECONDS = 24 * 60 * 60;

const port = z.int().min(1).max(MAX_PORT);
const name = z.string().regex(NAME, 'lower-case letters, digits and dashes, at most 63');
const seconds = z.number().positive();

const isHostPort = (text: string): boolean => {
  try {
    return parseHostPort(text).port > 0;
  } catch {
    return false;
  }
};

const listener = z.string().refine(isHostPort, 'ADDR:PORT of a listener');

const isTimeZone = (zone: string): boolean => {
  try {
    return new Intl.DateTimeFormat('en-GB', { timeZone: zone }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
};

const connectionSchema = z.strictObject({
  connection_string: z.string().min(1),
  /** Pins the target: whatever the relay says, only this `host:port` is published. */
  target: z.string().optional(),
  /** Its target is connected to, and the connection closed, when no stream was for this long; absent: never. */
  probe_seconds: z.number().min(MIN_PROBE_SECONDS).max(MAX_PROBE_SECONDS).optional(),
});

/** What it is asked with is in files, never in the address. */
const serverUrlSchema = z.string().refine(isServiceAddress, SERVICE_ADDRESS_FORM);

/** How a server is asked. The files are read at each request, so that they may be renewed in place. */
const accessFields = {
  /** Sent as `Authorization: Bearer`. */
  token_file: z.string().optional(),
  /** Certificates that vouch for the server; default: the system's. */
  ca_file: z.string().optional(),
  client_cert_file: z.string().optional(),
  client_key_file: z.string().optional(),
  /** An `http://` or `https://` proxy, or `none`; absent: `proxy` of the whole agent, or the environment's. */
  proxy: proxyAddressSchema.optional(),
  /** `user:password` for it, in place of what its address has. */
  proxy_credentials_file: z.string().optional(),
};

const checkAccess = (
  { client_cert_file: cert, client_key_file: key, proxy, proxy_credentials_file: file }: AccessFields,
  context: z.RefinementCtx,
): void => {
  if ((cert === undefined) !== (key === undefined)) {
    const message = 'client_cert_file and client_key_file go together';
    context.addIssue({ code: 'custom', path: ['client_cert_file'], message });
  }
  if (file !== undefined && (proxy === undefined || proxy === 'none')) {
    const message = 'proxy_credentials_file is for the proxy that proxy names';
    context.addIssue({ code: 'custom', path: ['proxy_credentials_file'], message });
  }
};
type AccessFields = { readonly [name in keyof typeof accessFields]?: string | undefined };

/** How `bundle_url` is asked. */
const bundleServiceSchema = z
  .strictObject({
    ...accessFields,
    min_delay_seconds: seconds.default(DEFAULT_MIN_POLL_SECONDS),
    max_delay_seconds: seconds.default(DEFAULT_MAX_POLL_SECONDS),
    /** The server may hold its answer this long, if it can; absent: it is not asked to. */
    long_poll_seconds: z.int().positive().max(MAX_LONG_POLL_SECONDS).optional(),
  })
  .superRefine(checkAccess)
  .refine(({ min_delay_seconds: min, max_delay_seconds: max }) => min <= max, {
    path: ['min_delay_seconds'],
    message: 'min_delay_seconds is over max_delay_seconds',
  });

/** Who is told which bundle runs here (OPA's status API). */
const statusServiceSchema = z
  .strictObject({
    /** Reports go to `/status` below it. */
    url: serverUrlSchema.refine(
      (text) => !URL.canParse(text) || new URL(text).search === '',
      'an address without a query: /status goes at its end',
    ),
    /** After `/status/`, for servers that tell reports apart by it. */
    partition: z
      .string()
      .regex(PARTITION, 'letters, digits, dots, dashes, underscores, at most 128')
      .optional(),
    /** What the server calls the bundle. */
    bundle_name: z.string().min(1).max(MAX_BUNDLE_NAME).default(DEFAULT_BUNDLE_NAME),
    /** Told again after this long, also when nothing changed. */
    interval_seconds: seconds.default(DEFAULT_REPORT_SECONDS),
    ...accessFields,
  })
  .superRefine(checkAccess);

const policySchema = z
  .strictObject({
    /** A bundle on this machine, watched; or, instead, */
    bundle_file: z.string().min(1).optional(),
    /** a bundle on a server, fetched again and again. */
    bundle_url: serverUrlSchema.optional(),
    bundle_service: bundleServiceSchema.default(() => bundleServiceSchema.parse({})),
    status_service: statusServiceSchema.optional(),
    /** Everything is denied when `bundle_url` has been silent for this long. */
    max_bundle_age_seconds: seconds.optional(),
    /** An activation that would close a larger share of the live streams (and more than 10) waits to be confirmed. */
    max_close_percent: z.number().min(0).max(PERCENT).default(DEFAULT_MAX_CLOSE_PERCENT),
    data_file: z.string().optional(),
    require_signed: z.boolean().default(true),
    keys: z
      .array(bundleKeySchema)
      .max(MAX_BUNDLE_KEYS)
      .refine((keys) => new Set(keys.map(({ id }) => id)).size === keys.length, 'each key needs its own id')
      .default([]),
  })
  .refine(({ require_signed, keys }) => !require_signed || keys.length > 0, {
    path: ['keys'],
    message: 'require_signed is set (it is the default): name the public keys that sign bundles',
  })
  .refine(({ bundle_file: file, bundle_url: url }) => (file === undefined) !== (url === undefined), {
    path: ['bundle_file'],
    message: 'give either bundle_file or bundle_url',
  })
  .refine(({ bundle_url: url, max_bundle_age_seconds: age }) => age === undefined || url !== undefined, {
    path: ['max_bundle_age_seconds'],
    message: 'max_bundle_age_seconds is for bundle_url; a file is never silent',
  });

const auditSchema = z.strictObject({
  database_url: z.string().optional(),
  spool_dir: z.string().min(1),
  key_file: z.string().min(1),
  jsonl_dir: z.string().optional(),
  ...sinkFields,
  /** Trust file with the operators whose requests for retention are recorded. */
  trust_file: z.string().min(1).optional(),
  ...checkpointSettings,
  mode: z.enum(['enforced', 'best_effort']).default('enforced'),
  max_spool_bytes: z.int().positive().optional(),
  /** Of the quota: from here on new streams of a principal with more than an equal share of it are refused. 100: never. */
  principal_share_from_percent: z.number().min(0).max(PERCENT).default(DEFAULT_SHARE_FROM_PERCENT),
});

const limitsSchema = z.strictObject({
  streams: z.int().positive().default(DEFAULT_STREAM_LIMIT),
  streams_per_principal: z.int().positive().optional(),
  streams_per_connection: z.int().positive().optional(),
  links: z.int().positive().default(DEFAULT_LINK_LIMIT),
  open_timeout_seconds: seconds.default(DEFAULT_OPEN_TIMEOUT_SECONDS),
  connect_timeout_seconds: seconds.default(DEFAULT_CONNECT_TIMEOUT_SECONDS),
  drain_seconds: seconds.default(DEFAULT_DRAIN_SECONDS),
});

/** agent.yaml. Secrets come from `*_file` or `${ENV}`; unknown keys are errors. */
export const agentConfigSchema = z.strictObject({
  namespace: z.string().min(1),
  name,
  labels: z.record(z.string(), z.string()).default({}),
  /** IANA name; `local` time of the policy input. Default: the machine's own. */
  time_zone: z
    .string()
    .refine(isTimeZone, 'an IANA time zone name, as Europe/Berlin')
    .default(() => new Intl.DateTimeFormat('en-GB').resolvedOptions().timeZone),
  state_dir: z.string().min(1),
  relays: relayNodesSchema,
  /** PEM file with the certificates that vouch for the relay; default: the system's. */
  ca_file: z.string().optional(),
  tls: tlsTrustSchema,
  /** In place of `HTTPS_PROXY` and `NO_PROXY` of the environment. */
  proxy: proxySettingsSchema.optional(),
  connections: z.array(connectionSchema).min(1),
  policy: policySchema,
  audit: auditSchema,
  /** Ports on loopback that may be dialled although the guard refuses loopback. */
  allow_loopback: z.array(port).default([]),
  allow_audit_database: z.boolean().default(false),
  /** `ADDR:PORT` of gateways beside this agent: streams to them would come back to it, and are refused as `loop`. */
  own_listeners: z.array(listener).default([]),
  status: z.strictObject({ listen: z.string().min(1) }),
  limits: limitsSchema.default(() => limitsSchema.parse({})),
});

export type AgentConfig = z.infer<typeof agentConfigSchema>;
