import type { AuditLog } from '../audit/index.ts';
import {
  type Bounds,
  type Decider,
  decideWithin,
  type PolicyHost,
  type PolicyInputBase,
} from '../policy/index.ts';
import { configuredProxy } from '../protocol/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import { ActivateRequests } from './activate-requests.ts';
import { BundleSource, type BundleSourceStatus, type FetchResult } from './bundle-source.ts';
import { previewClosing } from './close-preview.ts';
import { reviewActivation } from './close-review.ts';
import type { AgentConfig } from './config.ts';
import type { Decided } from './decided.ts';
import type { LiveStreams } from './live-streams.ts';
import type { Publication } from './publication.ts';
import type { Question } from './question.ts';
import { Questions } from './questions.ts';
import { Shadow, type ShadowStatus } from './shadow.ts';
import type { ShadowResult } from './shadow-tally.ts';
import { type ReportView, statusReport } from './status-report.ts';
import type { Turns } from './turns.ts';
import { type ReporterStatus, type ReportResult, StatusReporter } from './status-reporter.ts';

export interface PolicyIntakeDeps {
  readonly config: AgentConfig;
  /** The policy section as it is now: how a server is asked and what is held may change. */
  readonly policy: () => AgentConfig['policy'];
  readonly host: PolicyHost;
  readonly audit: Pick<AuditLog, 'record' | 'note'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly streams: LiveStreams;
  readonly turns: Turns;
  readonly published: () => readonly Publication[];
  readonly now: () => Pick<PolicyInputBase, 'time' | 'managed'>;
  readonly bounds: () => Bounds;
  readonly agent: ReportView['agent'];
  readonly onFetched: (result: FetchResult) => void;
  readonly onReported: (result: ReportResult) => void;
  readonly onShadowed: (result: ShadowResult) => void;
}

/**
 * How bundles come to the host and when they may take over: the server, the review of what they close, confirmations;
 * and how they are looked at before.
 */
export class PolicyIntake {
  #source: BundleSource | undefined;
  readonly #sourceOf: (url: string | undefined) => BundleSource | undefined;
  readonly #requests: ActivateRequests;
  readonly #shadow: Shadow;
  readonly #questions: Questions;
  readonly #reporter: StatusReporter;
  #isClosed = false;

  constructor(deps: PolicyIntakeDeps) {
    const { config, host, audit, clock, logger, streams, turns, published, now, bounds, onReported } = deps;
    const { state_dir: stateDir, namespace, name } = config;
    const proxies = configuredProxy(config.proxy);
    const review = {
      streams,
      turns,
      get maxClosePercent() {
        return deps.policy().max_close_percent;
      },
      decide: (candidate: Decider, base: PolicyInputBase) =>
        decideWithin(candidate, { ...base, ...now() }, bounds(), 'recheck'),
    };
    host.reviewBy((candidate) => reviewActivation(review, candidate));
    const subject = { namespace, agent: name };
    this.#requests = new ActivateRequests({ host, audit, clock, logger, stateDir, subject });
    // Also of one that is not used any more: the shadow may have been started with it.
    const hasGrantsFile = (): boolean =>
      config.policy.data_file !== undefined || deps.policy().data_file !== undefined;
    const onResult = deps.onShadowed;
    this.#shadow = new Shadow({
      host,
      audit,
      clock,
      logger,
      stateDir,
      subject,
      bounds,
      hasGrantsFile,
      onResult,
    });
    const answer = ({ what, reason, bundle }: Question, signal: AbortSignal): Promise<object> => {
      switch (what) {
        case 'preview':
          return previewClosing({ host, review, published, now, bounds }, bundle, signal);
        case 'shadow_start':
          return this.#shadow.begin(bundle, reason, signal).then(() => ({ started: true }));
        case 'shadow_stop':
          return this.#shadow.stop(reason).then((stopped) => ({ stopped }));
      }
    };
    this.#questions = new Questions({ stateDir, clock, logger, answer });
    this.#sourceOf = (url) =>
      url === undefined
        ? undefined
        : new BundleSource(url, {
            get policy() {
              return deps.policy();
            },
            stateDir,
            host,
            clock,
            logger,
            proxies,
            onFetched: (result) => {
              deps.onFetched(result);
              this.#reporter.look();
            },
          });
    this.#source = this.#sourceOf(config.policy.bundle_url);
    this.#reporter = new StatusReporter({
      service: () => deps.policy().status_service,
      report: ({ bundle_name: bundleName }) =>
        statusReport({
          namespace,
          agent: deps.agent,
          bundleName,
          policy: host.status(),
          sizeBytes: host.active?.bytes.length,
          source: this.#source?.status(),
        }),
      clock,
      logger,
      onReported,
      proxies,
    });
    const look = (): void => this.#reporter.look();
    host.onActivated(look);
    host.onRejected(look);
    host.onHeld(look);
    host.onRestored(look);
    host.onWithdrawn(look);
    host.onFreshness(look);
    // What is asked of the server must not wait for its next change when nothing decides.
    host.onWithdrawn(() => this.#source?.askNow());
  }

  start(): void {
    this.#source?.start();
    this.#shadow.resume();
    this.#reporter.start();
  }

  /**
   * Bundles come from elsewhere by now: the server of before is asked no more, another one once `moved` resolves, when the
   * host has what is known of it on this machine.
   */
  async follow(url: string | undefined, moved: Promise<void>): Promise<void> {
    const before = this.#source;
    const source = this.#sourceOf(url);
    this.#source = source;
    await before?.close();
    await moved;
    if (this.#source === source && !this.#isClosed) source?.start();
  }

  /** Of the bundle server; undefined when the bundle is a file. */
  sourceStatus(): BundleSourceStatus | undefined {
    return this.#source?.status();
  }

  /** Of the server that is told what runs here; undefined when none is. */
  reporterStatus(): ReporterStatus | undefined {
    return this.#reporter.status();
  }

  /** The settings were read again. */
  reloaded(): void {
    this.#reporter.reload();
  }

  shadowStatus(): ShadowStatus {
    return this.#shadow.status();
  }

  /** A decision was made and is in force: the shadow bundle may have a look, later. Never throws. */
  saw(decided: Decided): void {
    this.#shadow.saw(decided);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#requests.close();
    await this.#questions.close();
    await this.#shadow.close();
    await this.#source?.close();
    await this.#reporter.close();
  }
}
