import { resolve } from 'node:path';
import type { ManagedSettings, PolicyInUse } from '../policy/index.ts';
import type { AgentConfig } from './config.ts';

/**
 * agent.yaml with what managed settings say instead: where the bundle comes from, that it must be signed, how audit
 * behaves in an outage, whose signatures count. What is only a bound (relays, targets, sequence, proof) is held against
 * every decision.
 */
export const governedConfig = (config: AgentConfig, { config: managed }: ManagedSettings): AgentConfig => {
  if (managed === undefined) return config;
  const { bundle, signing_keys: keys, audit_mode: mode } = managed;
  const {
    data_file: dataFile,
    bundle_file: file,
    bundle_url: url,
    max_bundle_age_seconds: maxAge,
    ...policy
  } = config.policy;
  const source = bundle ?? { ...(file === undefined ? {} : { file }), ...(url === undefined ? {} : { url }) };
  // Grants of agent.yaml's own, which nobody signed, would decide beside the bundle that is required.
  const isOwnGranted = dataFile !== undefined && bundle === undefined && keys === undefined;
  return {
    ...config,
    policy: {
      ...policy,
      ...(isOwnGranted ? { data_file: dataFile } : {}),
      ...(source.file === undefined ? {} : { bundle_file: source.file }),
      ...(source.url === undefined ? {} : { bundle_url: source.url }),
      // How old a server's bundle may be means nothing of a file.
      ...(maxAge === undefined || source.url === undefined ? {} : { max_bundle_age_seconds: maxAge }),
      ...(keys === undefined ? {} : { require_signed: true, keys: [...keys] }),
    },
    audit: { ...config.audit, ...(mode === undefined ? {} : { mode }) },
  };
};

const sourceOf = ({ bundle_file: file, bundle_url: url }: AgentConfig['policy']): string | undefined =>
  file === undefined ? url : resolve(file);

/** What the policy host is opened with by this configuration, as managed settings judge it. */
export const policyInUseOf = ({ policy }: AgentConfig): PolicyInUse => ({
  // With grants of its own, what decides is not the bundle alone.
  source: policy.data_file === undefined ? sourceOf(policy) : undefined,
  // Without require_signed their signatures are not asked for.
  // Nor are those of grants of its own.
  keys: policy.require_signed && policy.data_file === undefined ? policy.keys : [],
});

/** Where bundles and grants come from: of agent.yaml these change with a restart, by managed settings at once. */
const OPENED_WITH = ['bundle_file', 'bundle_url', 'data_file', 'max_bundle_age_seconds'] as const;

/** Whether bundles or grants come from elsewhere by `next` than by `before`. */
export const isMoved = (before: AgentConfig['policy'], next: AgentConfig['policy']): boolean =>
  OPENED_WITH.some((key) => before[key] !== next[key]);

/** Of keys, what tells whether others count. */
const keysText = ({ require_signed, keys }: AgentConfig['policy']): string =>
  JSON.stringify([require_signed, keys]);

/** Whether other signatures count by `next` than by `before`. */
export const areKeysChanged = (before: AgentConfig['policy'], next: AgentConfig['policy']): boolean =>
  keysText(before) !== keysText(next);

/** What holds of `next` in a process that opened its policy by `opened`, and the keys that wait for a restart. */
export const livePolicy = (
  opened: AgentConfig['policy'],
  next: AgentConfig['policy'],
): { readonly policy: AgentConfig['policy']; readonly ignored: readonly string[] } => {
  const opening = new Set<string>(OPENED_WITH);
  const entriesOf = (of: AgentConfig['policy'], isOpening: boolean): [string, unknown][] =>
    Object.entries(of).filter(([key]) => opening.has(key) === isOpening);
  const policy = Object.fromEntries([...entriesOf(next, false), ...entriesOf(opened, true)]);
  return {
    policy: policy as AgentConfig['policy'],
    ignored: OPENED_WITH.filter((key) => opened[key] !== next[key]),
  };
};

/** Managed settings that hold with a restart only. */
export const awaitingRestart = ({ config: managed }: ManagedSettings, opened: AgentConfig): string[] => {
  const mode = managed?.audit_mode;
  return mode === undefined || mode === opened.audit.mode ? [] : ['audit_mode'];
};
