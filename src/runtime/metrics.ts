import type { Registry } from 'prom-client';
import { promClient } from './lazy.ts';

/** Every metric of ours starts so. */
export const METRIC_PREFIX = 'sallyport_';

export interface RegistryOptions {
  /** The version that `sallyport_build_info` names. */
  readonly version?: string;
}

/**
 * A registry of its own per process, with CPU, memory, handles, garbage collection and event-loop lag
 * (`sallyport_nodejs_eventloop_lag_*_seconds`), all labelled with the process.
 */
export const createRegistry = (
  process: 'relay' | 'agent' | 'gateway' | 'up',
  options: RegistryOptions = {},
): Registry => {
  const { collectDefaultMetrics, Gauge, Registry } = promClient();
  const registry = new Registry();
  registry.setDefaultLabels({ process });
  collectDefaultMetrics({ register: registry, prefix: METRIC_PREFIX });
  const build = new Gauge({
    name: `${METRIC_PREFIX}build_info`,
    help: 'Always 1; the labels name the build.',
    labelNames: ['version'],
    registers: [registry],
  });
  build.set({ version: options.version ?? 'unknown' }, 1);
  return registry;
};

export type { Registry } from 'prom-client';
