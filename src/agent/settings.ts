import { type AuditLog, openAuditLog } from '../audit/index.ts';
import { PolicyHost, verificationKey } from '../policy/index.ts';
import { type Clock, type Logger, packageVersion } from '../runtime/index.ts';
import { sourceNameOf } from './bundle-source.ts';
import type { AgentConfig } from './config.ts';
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

export const drainMs = ({ limits }: AgentConfig): number => limits.drain_seconds * SECOND_MS;

/** The agent's own audit chain. @throws AppError as `openAuditLog` does */
export const openAudit = (
  config: AgentConfig,
  instance: string,
  { clock, logger }: Surroundings,
): Promise<AuditLog> => {
  const { database_url: url, spool_dir, key_file, jsonl_dir, mode, max_spool_bytes } = config.audit;
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
    mode,
    maxSpoolBytes: max_spool_bytes,
    clock,
    logger,
  });
};

/** The bundle of the configuration; a missing or bad one is a host without an active bundle. */
export const openPolicy = (config: AgentConfig, { clock, logger }: Surroundings): Promise<PolicyHost> => {
  const {
    bundle_file,
    bundle_url,
    data_file,
    require_signed,
    keys,
    max_bundle_age_seconds: maxAge,
  } = config.policy;
  return PolicyHost.open({
    source: bundle_url === undefined ? { file: bundle_file ?? '' } : { name: sourceNameOf(bundle_url) },
    ...(data_file === undefined ? {} : { dataFile: data_file }),
    ...(maxAge === undefined ? {} : { maxAgeMs: maxAge * SECOND_MS }),
    stateDir: config.state_dir,
    requireSigned: require_signed,
    keys: keys.map(({ id, algorithm, public_key }) => verificationKey(id, algorithm, public_key)),
    clock,
    logger,
  });
};

const FIXED = [
  'namespace',
  'name',
  'time_zone',
  'state_dir',
  'relays',
  'ca_file',
  'policy',
  'audit',
  'status',
] as const satisfies readonly (keyof AgentConfig)[];

/** What a reload takes up, and which changed settings need a restart; of connections the keys alone may change. */
export const reloaded = (
  old: AgentConfig,
  next: AgentConfig,
  areKeysAlone: boolean,
): { readonly config: AgentConfig; readonly ignored: readonly string[] } => {
  const { labels, limits, allow_loopback, allow_audit_database } = next;
  return {
    config: {
      ...old,
      labels,
      limits,
      allow_loopback,
      allow_audit_database,
      ...(areKeysAlone ? { connections: next.connections } : {}),
    },
    ignored: [
      ...FIXED.filter((key) => JSON.stringify(old[key]) !== JSON.stringify(next[key])),
      ...(areKeysAlone ? [] : ['connections']),
    ],
  };
};
