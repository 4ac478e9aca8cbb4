import { AppError, Backoff, type Clock, type Logger, messageOf, sleep } from '../runtime/index.ts';
import type { AgentConfig } from './config.ts';
import type { AgentErrorCode } from './errors.ts';
import { environmentProxy, type ProxyFor } from '../protocol/index.ts';
import { readServiceAccess } from './service-access.ts';
import { askService } from './service-http.ts';
import { newsOf, type StatusReport } from './status-report.ts';

const SECOND_MS = 1_000;
/** However often something changes, reports are at least this far apart. */
export const REPORT_GAP_MS = 1_000;
/** A server that sends nothing for this long is given up. */
const SILENCE_LIMIT_MS = 10_000;
const TOTAL_LIMIT_MS = 20_000;
/** Without a server there is nothing to do until one is configured. */
const IDLE_MS = 3_600_000;
const CODE = 'ERR_AGENT_STATUS_REPORT' satisfies AgentErrorCode;

type StatusService = NonNullable<AgentConfig['policy']['status_service']>;

export type ReportResult = 'sent' | 'failed';

export interface ReporterStatus {
  readonly url: string;
  readonly lastSuccessMs: number | undefined;
  /** Why the last report failed; undefined when it did not. */
  readonly lastError: string | undefined;
}

export interface StatusReporterDeps {
  /** As configured at the moment; undefined: nobody is told. */
  readonly service: () => StatusService | undefined;
  readonly report: (service: StatusService) => StatusReport;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onReported: (result: ReportResult) => void;
  /** The proxies of the process; default: those of the environment. */
  readonly proxies?: ProxyFor;
  /** For tests that do not wait for the real ones. */
  readonly limits?: {
    readonly silenceMs?: number;
    readonly totalMs?: number;
    readonly gapMs?: number;
  };
}

/** Where reports go: `/status` below the server's address, and the partition. */
export const reportUrl = ({ url, partition }: Pick<StatusService, 'url' | 'partition'>): URL => {
  const at = new URL(url);
  at.pathname = `${at.pathname.replace(/\/+$/, '')}/status${partition === undefined ? '' : `/${partition}`}`;
  return at;
};

/**
 * Reports to a server of OPA's status API which bundle the agent runs: when that changes and at an interval, one report at
 * a time. Nothing waits for it.
 */
export class StatusReporter {
  readonly #deps: StatusReporterDeps;
  readonly #backoff = new Backoff();
  readonly #stop = new AbortController();
  #wake = new AbortController();
  /** Ends the request that is under way. */
  #round = new AbortController();
  /** What the server was told last, and how it was asked. */
  #told: string | undefined;
  #lastSuccessMs: number | undefined;
  #lastError: string | undefined;
  #running: Promise<void> | undefined;

  constructor(deps: StatusReporterDeps) {
    this.#deps = deps;
  }

  /** Begins. Never rejects. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Something may have changed. Looks in its own time. */
  look(): void {
    this.#wake.abort();
  }

  /** The settings were read again: what is asked by other ones is given up. */
  reload(): void {
    this.#round.abort();
    this.look();
  }

  status(): ReporterStatus | undefined {
    const service = this.#deps.service();
    return (
      service && {
        url: reportUrl(service).href,
        lastSuccessMs: this.#lastSuccessMs,
        lastError: this.#lastError,
      }
    );
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #pause(ms: number, signal: AbortSignal): Promise<void> {
    return sleep(this.#deps.clock, ms, signal).catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { service, limits } = this.#deps;
    while (!signal.aborted) {
      const to = service();
      if (to === undefined) {
        await this.#untilNews(IDLE_MS);
        continue;
      }
      this.#round = new AbortController();
      const round = AbortSignal.any([signal, this.#round.signal]);
      if (await this.#send(to, round)) {
        await this.#pause(limits?.gapMs ?? REPORT_GAP_MS, signal);
        await this.#untilNews(to.interval_seconds * SECOND_MS);
      } else {
        // What changes meanwhile is in the next try; other settings are tried at once.
        await this.#pause(this.#backoff.nextDelayMs(), round);
      }
    }
  }

  /** What there is to tell, and to whom. */
  #news(): string | undefined {
    const service = this.#deps.service();
    return service && `${JSON.stringify(service)} ${newsOf(this.#deps.report(service))}`;
  }

  async #untilNews(ms: number): Promise<void> {
    const { clock } = this.#deps;
    const endMs = clock.monotonicMs() + ms;
    while (!this.#stop.signal.aborted && this.#news() === this.#told) {
      const leftMs = endMs - clock.monotonicMs();
      if (leftMs <= 0) return;
      this.#wake = new AbortController();
      await this.#pause(leftMs, AbortSignal.any([this.#stop.signal, this.#wake.signal]));
    }
  }

  async #send(service: StatusService, signal: AbortSignal): Promise<boolean> {
    const { clock, logger, report, onReported, proxies = environmentProxy(), limits } = this.#deps;
    const news = this.#news();
    const url = reportUrl(service);
    try {
      const access = await readServiceAccess(service, proxies, CODE);
      await askService(
        { ...access, url, signal },
        {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(report(service)),
          silenceMs: limits?.silenceMs ?? SILENCE_LIMIT_MS,
          totalMs: limits?.totalMs ?? TOTAL_LIMIT_MS,
          code: CODE,
          read: ({ statusCode: status = 0 }) => {
            if (status < 200 || status > 299)
              throw new AppError<AgentErrorCode>(CODE, `the server answers ${String(status)}`);
          },
        },
        clock,
      );
    } catch (thrown) {
      if (signal.aborted) return false;
      const cause = messageOf(thrown);
      // The same failure again is no news.
      if (cause !== this.#lastError) logger.warn({ url: url.href, cause }, 'status not reported');
      this.#lastError = cause;
      onReported('failed');
      return false;
    }
    if (this.#lastError !== undefined) logger.info({ url: url.href }, 'status is reported again');
    this.#backoff.reset();
    this.#told = news;
    this.#lastSuccessMs = clock.nowMs();
    this.#lastError = undefined;
    onReported('sent');
    return true;
  }
}
