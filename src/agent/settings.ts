import { join } from 'node:path';
import { sasCredential } from '../identity/index.ts';
import { type AuditLog, checkpointsOf, openAuditLog, PolicyStore, sinksOf } from '../audit/index.ts';
import { type BundleTrust, type OriginOptions, PolicyHost, verificationKey } from '../policy/index.ts';
import { type Clock, type Logger, packageVersion } from '../runtime/index.ts';
import { sourceNameOf } from './bundle-source.ts';
import type { AgentConfig } from './config.ts';
import { livePolicy } from './governed-config.ts';
import type { OpenLimits } from './open-deps.ts';
import type { SlotLimits } from './slots.ts';

const SECOND_MS = 1_000;

interface Surroundings {
  readonly clock: Clock;
  readonly logger: Logger;
}

export const slotLimits = ({ limits }: AgentConfig): SlotLimits => ({
  agent: limits.streams,
  principal: limits.streams_per_principal,
  connection: limits.streams_per_connection,
});

export const openLimits = ({ limits }: AgentConfig): OpenLimits => ({
  openTimeoutMs: limits.open_timeout_seconds * SECOND_MS,
  connectTimeoutMs: limits.connect_timeout_seconds * SECOND_MS,
});

/** By connection: how long after the latest dial its target is probed. */
export const probeIntervalsMs = ({ connections }: AgentConfig): ReadonlyMap<string, number> =>
  new Map(
    connections.flatMap(({ connection_string, probe_seconds: seconds }) => {
      if (seconds === undefined) return [];
      const { connection } = sasCredential(connection_string);
      return connection === undefined ? [] : [[connection, seconds * SECOND_MS] as const];
    }),
  );

export const drainMs = ({ limits }: AgentConfig): number => limits.drain_seconds * SECOND_MS;

/** The agent's own audit chain. @throws AppError as `openAuditLog` does */
export const openAudit = (
  config: AgentConfig,
  instance: string,
  { clock, logger }: Surroundings,
): Promise<AuditLog> => {
  const { database_url: url, spool_dir, key_file, jsonl_dir, trust_file, mode } = config.audit;
  return openAuditLog({
    spoolDir: spool_dir,
    keyFile: key_file,
    origin: {
      kind: 'agent',
      name: config.name,
      instance,
      namespace: config.namespace,
      version: packageVersion,
      zone: config.time_zone,
    },
    database: url === undefined ? undefined : { url },
    jsonlDir: jsonl_dir,
    sinks: sinksOf(config.audit),
    trustFile: trust_file,
    checkpoints: checkpointsOf(config.audit),
    mode,
    maxSpoolBytes: config.audit.max_spool_bytes,
    shareFromPercent: config.audit.principal_share_from_percent,
    clock,
    logger,
  });
};

/** Whose signatures of bundles count. */
export const bundleTrust = ({ policy }: AgentConfig): BundleTrust => ({
  requireSigned: policy.require_signed,
  keys: policy.keys.map(({ id, algorithm, public_key }) => verificationKey(id, algorithm, public_key)),
});

/** In the state directory: bundles and grants that the audit database does not have yet. */
const POLICY_STORE_DIRECTORY = 'policies-for-audit';

/** Takes what decides to the audit database; undefined without one. */
export const openPolicyStore = (
  { audit, state_dir }: AgentConfig,
  { clock, logger }: Surroundings,
): PolicyStore | undefined =>
  audit.database_url === undefined
    ? undefined
    : new PolicyStore({
        directory: join(state_dir, POLICY_STORE_DIRECTORY),
        databaseUrl: audit.database_url,
        clock,
        logger,
      });

/** Where the bundles of the configuration come from. */
export const bundleOrigin = ({ policy }: AgentConfig): OriginOptions => {
  const { bundle_file, bundle_url, data_file, max_bundle_age_seconds: maxAge } = policy;
  return {
    source: bundle_url === undefined ? { file: bundle_file ?? '' } : { name: sourceNameOf(bundle_url) },
    ...(data_file === undefined ? {} : { dataFile: data_file }),
    ...(maxAge === undefined ? {} : { maxAgeMs: maxAge * SECOND_MS }),
  };
};

/** The bundle of the configuration; a missing or bad one is a host without an active bundle. */
export const openPolicy = (config: AgentConfig, { clock, logger }: Surroundings): Promise<PolicyHost> =>
  PolicyHost.open({
    ...bundleOrigin(config),
    stateDir: config.state_dir,
    ...bundleTrust(config),
    clock,
    logger,
  });

const FIXED = [
  'namespace',
  'name',
  'time_zone',
  'state_dir',
  'relays',
  'ca_file',
  'tls',
  'proxy',
  'audit',
  'status',
] as const satisfies readonly (keyof AgentConfig)[];

/** What a reload takes up, and which changed settings need a restart; of connections the keys alone may change. */
export const reloaded = (
  old: AgentConfig,
  next: AgentConfig,
  areKeysAlone: boolean,
): { readonly config: AgentConfig; readonly ignored: readonly string[] } => {
  const { labels, limits, allow_loopback, allow_audit_database, own_listeners } = next;
  const { policy, ignored } = livePolicy(old.policy, next.policy);
  return {
    config: {
      ...old,
      policy,
      labels,
      limits,
      allow_loopback,
      allow_audit_database,
      own_listeners,
      ...(areKeysAlone ? { connections: next.connections } : {}),
    },
    ignored: [
      ...FIXED.filter((key) => JSON.stringify(old[key]) !== JSON.stringify(next[key])),
      ...ignored.map((key) => `policy.${key}`),
      ...(areKeysAlone ? [] : ['connections']),
    ],
  };
};
