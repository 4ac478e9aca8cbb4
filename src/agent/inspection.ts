import type { SasCredential } from '../identity/index.ts';
import {
  type GuardSettings,
  MANAGED_LOCATION,
  ManagedHost,
  type ManagedSettings,
  PolicyHost,
} from '../policy/index.ts';
import { type Clock, type HostPort, type Logger, parseHostPort } from '../runtime/index.ts';
import type { AgentConfig } from './config.ts';
import { readAuthorities, readCredentials } from './credentials.ts';
import { governedConfig } from './governed-config.ts';
import { GuardKeeper } from './guard-settings.ts';
import { Resolver } from './resolver.ts';
import { bundleOrigin, bundleTrust } from './settings.ts';

/** What an agent of a configuration would go by, without an agent: nothing is written, served or logged in at. */
export interface AgentInspection {
  /** As managed settings make it. */
  readonly config: AgentConfig;
  readonly credentials: readonly SasCredential[];
  /** Targets that agent.yaml pins, by connection. */
  readonly pins: ReadonlyMap<string, HostPort>;
  /** PEM of `ca_file`. */
  readonly ca: string | undefined;
  readonly resolver: Resolver;
  readonly guard: GuardSettings;
  readonly managed: ManagedSettings;
  /** Its bundle file, read, verified and started once; without an active bundle where that fails. */
  policy(): Promise<PolicyHost>;
  close(): Promise<void>;
}

/** @throws AppError ERR_AGENT_CONFIG */
export const inspectAgent = async (
  config: AgentConfig,
  { clock, logger }: { readonly clock: Clock; readonly logger: Logger },
): Promise<AgentInspection> => {
  const { credentials, pins } = readCredentials(config, logger);
  const ca = await readAuthorities(config.ca_file);
  const managed = await ManagedHost.open({ location: MANAGED_LOCATION, clock, logger });
  const governed = governedConfig(config, managed.settings);
  const resolver = new Resolver(clock);
  const keeper = new GuardKeeper(governed, resolver, clock, logger);
  const { host, port } = parseHostPort(config.status.listen);
  await keeper.configure(governed, `http://${host.includes(':') ? `[${host}]` : host}:${String(port)}`);
  let opened: Promise<PolicyHost> | undefined;
  return {
    config: governed,
    credentials,
    pins,
    ca,
    resolver,
    get guard() {
      return keeper.settings;
    },
    managed: managed.settings,
    policy() {
      // Without a state directory nothing is kept.
      opened ??= PolicyHost.open({ ...bundleOrigin(governed), ...bundleTrust(governed), clock, logger });
      return opened;
    },
    async close() {
      keeper.close();
      await managed.close();
      await (await opened)?.close();
    },
  };
};
