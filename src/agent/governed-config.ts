import { resolve } from 'node:path';
import type { ManagedSettings, PolicyInUse } from '../policy/index.ts';
import type { AgentConfig } from './config.ts';

/**
 * agent.yaml with what managed settings say instead: where the bundle comes from, that it must be signed, how audit
 * behaves in an outage. What is only a bound (relays, targets, sequence, proof), and a source that this version cannot
 * read from (an address), is held against every decision.
 */
export const governedConfig = (config: AgentConfig, { config: managed }: ManagedSettings): AgentConfig => {
  if (managed === undefined) return config;
  const { bundle, signing_keys: keys, audit_mode: mode } = managed;
  const { data_file: dataFile, ...policy } = config.policy;
  // Grants of agent.yaml's own, which nobody signed, would decide beside the bundle that is required.
  const isOwnGranted = dataFile !== undefined && bundle === undefined && keys === undefined;
  return {
    ...config,
    policy: {
      ...policy,
      ...(isOwnGranted ? { data_file: dataFile } : {}),
      ...(bundle?.file === undefined ? {} : { bundle_file: bundle.file }),
      ...(keys === undefined ? {} : { require_signed: true }),
    },
    audit: { ...config.audit, ...(mode === undefined ? {} : { mode }) },
  };
};

/** What the policy host is opened with by this configuration, as managed settings judge it. */
export const policyInUseOf = ({ policy }: AgentConfig): PolicyInUse => ({
  // With grants of its own, what decides is not the bundle alone.
  source: policy.data_file === undefined ? resolve(policy.bundle_file) : undefined,
  keys: [],
});

/** Managed settings that hold with a restart only. */
export const awaitingRestart = ({ config: managed }: ManagedSettings, opened: AgentConfig): string[] => {
  const mode = managed?.audit_mode;
  return mode === undefined || mode === opened.audit.mode ? [] : ['audit_mode'];
};
