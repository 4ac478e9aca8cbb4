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
  keys: policy.require_signed ? policy.keys : [],
});

/** Managed settings that hold with a restart only. */
export const awaitingRestart = ({ config: managed }: ManagedSettings, opened: AgentConfig): string[] => {
  const mode = managed?.audit_mode;
  return mode === undefined || mode === opened.audit.mode ? [] : ['audit_mode'];
};
