import type { AuditLog } from '../audit/index.ts';
import {
  type Bounds,
  type Decider,
  decideWithin,
  type PolicyHost,
  type PolicyInputBase,
} from '../policy/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import { ActivateRequests } from './activate-requests.ts';
import { BundleSource, type BundleSourceStatus, type FetchResult } from './bundle-source.ts';
import { reviewClosing } from './close-review.ts';
import type { AgentConfig } from './config.ts';
import type { LiveStreams } from './live-streams.ts';

export interface PolicyIntakeDeps {
  readonly config: AgentConfig;
  readonly host: PolicyHost;
  readonly audit: Pick<AuditLog, 'record'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly streams: LiveStreams;
  readonly now: () => Pick<PolicyInputBase, 'time' | 'managed'>;
  readonly bounds: () => Bounds;
  readonly onFetched: (result: FetchResult) => void;
}

/** How bundles come to the host and when they may take over: the server, the review of what they close, confirmations. */
export class PolicyIntake {
  readonly #source: BundleSource | undefined;
  readonly #requests: ActivateRequests;

  constructor(deps: PolicyIntakeDeps) {
    const { config, host, audit, clock, logger, streams, now, bounds, onFetched } = deps;
    const { policy, state_dir: stateDir, namespace, name } = config;
    const review = {
      streams,
      maxClosePercent: policy.max_close_percent,
      decide: (candidate: Decider, base: PolicyInputBase) =>
        decideWithin(candidate, { ...base, ...now() }, bounds(), 'recheck'),
    };
    host.reviewBy((candidate) => reviewClosing(review, candidate));
    const subject = { namespace, agent: name };
    this.#requests = new ActivateRequests({ host, audit, clock, logger, stateDir, subject });
    const { bundle_url: url } = policy;
    this.#source =
      url === undefined
        ? undefined
        : new BundleSource(url, { policy, stateDir, host, clock, logger, onFetched });
  }

  start(): void {
    this.#source?.start();
  }

  /** Of the bundle server; undefined when the bundle is a file. */
  sourceStatus(): BundleSourceStatus | undefined {
    return this.#source?.status();
  }

  async close(): Promise<void> {
    this.#requests.close();
    await this.#source?.close();
  }
}
