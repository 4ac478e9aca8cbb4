import { Gauge } from 'prom-client';
import { METRIC_PREFIX, type Registry } from '../../runtime/index.ts';
import type { CheckpointHealth } from './desk.ts';

/** Metrics of the places of checkpoints, read when scraped; without places they have no values. */
export const checkpointMetrics = (
  registry: Registry,
  read: () => readonly CheckpointHealth[] | undefined,
): void => {
  const registers = [registry];
  new Gauge({
    name: `${METRIC_PREFIX}audit_checkpoint_age_seconds`,
    help: 'Since the place took a checkpoint; no value before the first.',
    labelNames: ['place'],
    registers,
    collect() {
      for (const { place, age_seconds } of read() ?? [])
        if (age_seconds !== null) this.set({ place }, age_seconds);
    },
  });
  new Gauge({
    name: `${METRIC_PREFIX}audit_checkpoint_failures`,
    help: 'Times since the start that the place took no checkpoint.',
    labelNames: ['place'],
    registers,
    collect() {
      for (const { place, failures } of read() ?? []) this.set({ place }, failures);
    },
  });
};
