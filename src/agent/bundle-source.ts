import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { PolicyHost } from '../policy/index.ts';
import { environmentProxy, type ProxyFor } from '../protocol/index.ts';
import {
  Backoff,
  type Clock,
  foreignCodeOf,
  type Logger,
  messageOf,
  randomFraction,
  sleep,
  writeFileAtomically,
} from '../runtime/index.ts';
import { type BundleAnswer, type BundleRequest, fetchBundle, UnwantedStatus } from './bundle-http.ts';
import type { AgentConfig } from './config.ts';
import { readServiceAccess } from './service-access.ts';

const SECOND_MS = 1_000;
/** Pause between long polls: a server that holds nothing must not be asked in a circle. */
const HELD_PAUSE_MS = 1_000;
const SOURCE_DIGITS = 12;

/** What a source is called and known by: its address without the query, which may hold a secret that changes. */
export const sourceNameOf = (url: string): string => {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
};

/** What became of one request. */
export type FetchResult = 'activated' | 'held' | 'unchanged' | 'refused' | 'failed';

export interface BundleSourceStatus {
  /** Without its query, which may hold a secret. */
  readonly url: string;
  readonly etag: string | undefined;
  readonly lastAttemptMs: number | undefined;
  /** When the server last gave the active bundle or confirmed it. */
  readonly lastSuccessMs: number | undefined;
  /** Why the last request failed; undefined when it did not. */
  readonly lastError: string | undefined;
  /** The status that the last answer had, where it had a wrong one. */
  readonly lastStatus: number | undefined;
  /** When the server last gave a bundle, and when it gave one or said that nothing changed; in this process. */
  readonly lastDownloadMs: number | undefined;
  readonly lastAnsweredMs: number | undefined;
}

export interface BundleSourceDeps {
  readonly policy: AgentConfig['policy'];
  readonly stateDir: string;
  readonly host: PolicyHost;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onFetched: (result: FetchResult) => void;
  /** The proxies of the process; default: those of the environment. */
  readonly proxies?: ProxyFor;
  /** Limits of one request, for tests that do not wait for the real ones. */
  readonly limits?: Pick<BundleRequest, 'silenceLimitMs' | 'totalLimitMs'>;
}

/** What is kept beside the last good bundle: of which etag it is, and when the server last stood by it. */
const keptSchema = z.object({
  v: z.literal(1),
  etag: z.string().optional(),
  sha256: z.string(),
  success_ms: z.number(),
});
type Kept = z.infer<typeof keptSchema>;

/** Fetches the bundle of `policy.bundle_url` again and again and offers it to the host (OPA's bundle API). */
export class BundleSource {
  readonly #deps: BundleSourceDeps;
  readonly #url: URL;
  readonly #file: string;
  readonly #backoff = new Backoff();
  readonly #stop = new AbortController();
  /** Ends the request or the pause that is under way. */
  #round = new AbortController();
  #kept: Kept | undefined;
  /** The bundle that the server gave last and that was not refused: active, or held. */
  #latest: { readonly sha256: string; readonly etag: string | undefined } | undefined;
  #lastAttemptMs: number | undefined;
  #lastError: string | undefined;
  #lastStatus: number | undefined;
  #lastDownloadMs: number | undefined;
  #lastAnsweredMs: number | undefined;
  #running: Promise<void> | undefined;

  constructor(url: string, deps: BundleSourceDeps) {
    this.#deps = deps;
    this.#url = new URL(url);
    const digest = createHash('sha256').update(sourceNameOf(url)).digest('hex').slice(0, SOURCE_DIGITS);
    this.#file = join(deps.stateDir, `bundle-source-${digest}.json`);
    this.#kept = this.#readKept();
    this.#latest = this.#kept && { sha256: this.#kept.sha256, etag: this.#kept.etag };
  }

  /** Begins; what was kept counts as confirmed when it was. Never rejects. */
  start(): void {
    const { host, clock } = this.#deps;
    // A wall clock that was set back meanwhile must not make old news fresh news: then nothing was ever confirmed.
    const agoMs = this.#kept === undefined ? -1 : clock.nowMs() - this.#kept.success_ms;
    if (this.#isOfActive() && agoMs >= 0) host.confirm(agoMs);
    this.#running ??= this.#run();
  }

  status(): BundleSourceStatus {
    return {
      url: sourceNameOf(this.#url.href),
      etag: this.#kept?.etag,
      lastAttemptMs: this.#lastAttemptMs,
      lastSuccessMs: this.#kept?.success_ms,
      lastError: this.#lastError,
      lastStatus: this.#lastStatus,
      lastDownloadMs: this.#lastDownloadMs,
      lastAnsweredMs: this.#lastAnsweredMs,
    };
  }

  /** Asks now, whatever was asked before: a held answer would be about another bundle. */
  askNow(): void {
    this.#round.abort(new Error('asked again'));
  }

  async close(): Promise<void> {
    this.#stop.abort(new Error('closed'));
    await this.#running;
  }

  /** Whether the kept etag is that of the bundle which decides. */
  #isOfActive(): boolean {
    return this.#kept !== undefined && this.#kept.sha256 === this.#deps.host.current?.sha256;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      this.#round = new AbortController();
      const either = AbortSignal.any([signal, this.#round.signal]);
      const pauseMs = await this.#once(either);
      await sleep(this.#deps.clock, pauseMs, either).catch(() => undefined);
    }
  }

  /** One request; how long to wait before the next. */
  async #once(signal: AbortSignal): Promise<number> {
    const { clock, logger, policy, onFetched } = this.#deps;
    this.#lastAttemptMs = clock.nowMs();
    try {
      const answer = await fetchBundle(await this.#request(signal), clock);
      this.#lastStatus = undefined;
      this.#lastAnsweredMs = clock.nowMs();
      if (answer.bytes !== undefined) this.#lastDownloadMs = this.#lastAnsweredMs;
      const result = await this.#take(answer);
      this.#backoff.reset();
      if (result !== 'refused') this.#lastError = undefined;
      onFetched(result);
      // What is refused is not asked for in a circle: it is as large as a good one.
      if (answer.holds && result !== 'refused') return HELD_PAUSE_MS;
      const { min_delay_seconds: min, max_delay_seconds: max } = policy.bundle_service;
      return (min + randomFraction() * (max - min)) * SECOND_MS;
    } catch (thrown) {
      if (signal.aborted) return 0;
      const message = messageOf(thrown);
      // The same failure again is no news.
      if (message !== this.#lastError)
        logger.warn({ url: this.status().url, cause: message }, 'no bundle fetched');
      this.#lastError = message;
      const cause = thrown instanceof Error ? thrown.cause : undefined;
      this.#lastStatus = cause instanceof UnwantedStatus ? cause.status : undefined;
      onFetched('failed');
      return this.#backoff.nextDelayMs();
    }
  }

  async #take({ bytes, etag }: BundleAnswer): Promise<FetchResult> {
    const { host } = this.#deps;
    if (bytes === undefined) {
      this.#succeeded();
      return 'unchanged';
    }
    const before = host.current?.sha256;
    const outcome = await host.offer(bytes);
    if (outcome === 'refused') {
      const { rejected, grantsRejected } = host.status();
      this.#lastError = (rejected ?? grantsRejected)?.message ?? 'the bundle was refused';
      return 'refused';
    }
    this.#latest = { sha256: createHash('sha256').update(bytes).digest('hex'), etag };
    this.#succeeded();
    if (outcome === 'held') return 'held';
    return host.current?.sha256 === before ? 'unchanged' : 'activated';
  }

  /** The server was heard. On disk is what belongs to the active bundle: a held one is fetched anew after a restart. */
  #succeeded(): void {
    const { host, clock, logger } = this.#deps;
    const sha256 = host.current?.sha256;
    if (sha256 === undefined) return;
    host.confirm();
    const etag = [this.#latest, this.#kept].find((known) => known?.sha256 === sha256)?.etag;
    this.#kept = { v: 1, sha256, success_ms: clock.nowMs(), ...(etag === undefined ? {} : { etag }) };
    try {
      writeFileAtomically(this.#file, `${JSON.stringify(this.#kept)}\n`);
    } catch (thrown) {
      logger.warn(
        { file: this.#file, cause: messageOf(thrown) },
        'the state of the bundle source is not kept',
      );
    }
  }

  /** The etag of what the server gave last, while that is what is active or held. */
  #etag(): string | undefined {
    const { host } = this.#deps;
    const known = [host.current?.sha256, host.status().held?.sha256];
    return this.#latest !== undefined && known.includes(this.#latest.sha256) ? this.#latest.etag : undefined;
  }

  async #request(signal: AbortSignal): Promise<BundleRequest> {
    const { policy, limits, proxies = environmentProxy() } = this.#deps;
    const { bundle_service: service } = policy;
    return {
      ...(await readServiceAccess(service, proxies, 'ERR_AGENT_BUNDLE_SOURCE')),
      url: this.#url,
      etag: this.#etag(),
      waitSeconds: service.long_poll_seconds,
      signal,
      ...limits,
    };
  }

  #readKept(): Kept | undefined {
    try {
      return keptSchema.parse(JSON.parse(readFileSync(this.#file, 'utf8')));
    } catch (thrown) {
      if (foreignCodeOf(thrown) !== 'ENOENT') {
        const cause = messageOf(thrown);
        this.#deps.logger.warn({ file: this.#file, cause }, 'the state of the bundle source cannot be read');
      }
      return undefined;
    }
  }
}
