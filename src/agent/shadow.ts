import { createHash } from 'node:crypto';
import type { AuditEventInput, AuditLog } from '../audit/index.ts';
import type { Bounds, Candidate, PolicyHost } from '../policy/index.ts';
import { AppError, type Clock, type Logger, messageOf, type Timer } from '../runtime/index.ts';
import type { Decided } from './decided.ts';
import type { AgentErrorCode } from './errors.ts';
import { ShadowRun } from './shadow-run.ts';
import { ShadowStore } from './shadow-store.ts';
import type { ShadowCounts, ShadowResult } from './shadow-tally.ts';

/** A kept shadow bundle that could not be started is tried again this often. */
const RETRY_MS = 60_000;

export interface ShadowDeps {
  readonly host: PolicyHost;
  readonly audit: Pick<AuditLog, 'record' | 'note'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly stateDir: string;
  readonly subject: { readonly namespace: string; readonly agent: string };
  readonly bounds: () => Bounds;
  /** Grants come from a file of their own, which may change under the same bundle. */
  readonly hasGrantsFile: () => boolean;
  readonly onResult: (result: ShadowResult) => void;
}

export const SHADOW_STATES = ['off', 'starting', 'running', 'refused', 'failed'] as const;

export interface ShadowStatus {
  readonly state: (typeof SHADOW_STATES)[number];
  readonly bundle:
    | { readonly sha256: string; readonly revision: string; readonly sequence: number }
    | undefined;
  /** The configured id of the key that verified its signature. */
  readonly signedBy: string | undefined;
  readonly sinceMs: number | undefined;
  readonly counts: ShadowCounts | undefined;
  /** Why it does not run, or the last answer that it did not give. */
  readonly detail: string | undefined;
}

const refused = (message: string): AppError<AgentErrorCode> => new AppError('ERR_AGENT_ASKED', message);

/**
 * The bundle that is evaluated beside the active one, and never enforced: nothing here has a way to a stream or to the
 * host's verdict. It is kept over restarts until it is stopped, or activated.
 */
export class Shadow {
  readonly #deps: ShadowDeps;
  readonly #store: ShadowStore;
  readonly #closing = new AbortController();
  readonly #unsubscribe: readonly (() => void)[];
  #run: ShadowRun | undefined;
  /** Digest of the bundle that is kept, whether it runs or not. */
  #keptSha256: string | undefined;
  #idle: Pick<ShadowStatus, 'state' | 'detail'> = { state: 'off', detail: undefined };
  #retry: Timer | undefined;
  /** One change after the other. */
  #changing: Promise<unknown> = Promise.resolve();

  constructor(deps: ShadowDeps) {
    this.#deps = deps;
    this.#store = new ShadowStore(deps.stateDir);
    this.#unsubscribe = [
      deps.host.onActivated(({ sha256 }) => this.#activated(sha256)),
      deps.host.onTrust(() => this.#trusted()),
    ];
  }

  /** Takes up what was kept, in its own time. */
  resume(): void {
    this.#idle = { state: 'starting', detail: undefined };
    void this.#change(() => this.#resume());
  }

  /** A decision was made; looked at later, if at all. Never throws, never waits. */
  saw(decided: Decided): void {
    this.#run?.saw(decided);
  }

  status(): ShadowStatus {
    const run = this.#run;
    if (run === undefined) {
      return { ...this.#idle, bundle: undefined, signedBy: undefined, sinceMs: undefined, counts: undefined };
    }
    const { sha256, revision, sequence, signedBy } = run.bundle;
    return {
      state: 'running',
      bundle: { sha256, revision, sequence },
      signedBy,
      sinceMs: run.sinceMs,
      counts: run.counts,
      detail: run.lastError,
    };
  }

  /**
   * Evaluates this bundle from now on, in place of another one.
   * @throws AppError ERR_AGENT_ASKED when it is the active one, or the key that verified it counts no more; as opening a
   *   candidate and recording do
   */
  begin(bytes: Buffer, reason: string | undefined, signal: AbortSignal): Promise<void> {
    return this.#change(async () => {
      const candidate = await this.#deps.host.openCandidate(bytes, signal);
      const { sha256, revision, sequence } = candidate.active;
      let isRecorded = false;
      try {
        this.#check(candidate);
        await this.#record('policy.shadow_started', { sha256, revision, sequence }, reason);
        isRecorded = true;
        signal.throwIfAborted();
        // Recording takes its time: it may have been activated, or its key been taken out.
        this.#check(candidate);
        this.#store.keep(bytes);
        this.#keptSha256 = sha256;
      } catch (error) {
        if (isRecorded)
          this.#deps.audit.note(
            this.#action('policy.shadow_stopped', { sha256, revision, sequence }, messageOf(error)),
          );
        await candidate.close();
        throw error;
      }
      await this.#replace(candidate);
    });
  }

  /** Ends it for good. False when there is none. @throws AppError as recording does */
  stop(reason: string | undefined): Promise<boolean> {
    return this.#change(async () => {
      const { state, bundle } = this.status();
      if (state === 'off') return false;
      await this.#record('policy.shadow_stopped', { ...bundle }, reason);
      await this.#forget('stopped');
      return true;
    });
  }

  async close(): Promise<void> {
    for (const call of this.#unsubscribe) call();
    this.#closing.abort();
    this.#retry?.cancel();
    await this.#change(() => this.#end('agent_shutdown'));
  }

  /** May change over an await. */
  #isClosing(): boolean {
    return this.#closing.signal.aborted;
  }

  #change<T>(make: () => Promise<T>): Promise<T> {
    const made = this.#changing.then(make);
    this.#changing = made.catch(() => undefined);
    return made;
  }

  /** @throws AppError ERR_AGENT_ASKED */
  #check({ active, isTrusted }: Candidate): void {
    if (this.#deps.host.active?.sha256 === active.sha256) throw refused('this bundle is the active one');
    if (!isTrusted) throw refused('the key that verified this bundle counts no more');
  }

  /** In this tick: what was checked before holds for the run that begins. */
  async #replace(candidate: Candidate): Promise<void> {
    const before = this.#run;
    this.#begin(candidate);
    await before?.end('replaced');
  }

  #begin(candidate: Candidate): void {
    const { audit, clock, logger, subject, bounds, onResult } = this.#deps;
    this.#retry?.cancel();
    const run = new ShadowRun(candidate, {
      audit,
      clock,
      subject,
      bounds,
      onResult,
      onFailing: () => void this.#change(() => this.#fail(run)),
    });
    this.#run = run;
    const { sha256, revision, sequence } = candidate.active;
    logger.info({ sha256, revision, sequence }, 'shadow bundle is evaluated beside the active one');
  }

  async #resume(): Promise<void> {
    const { host, logger } = this.#deps;
    if (this.#isClosing()) return;
    this.#retry?.cancel();
    try {
      const bytes = await this.#store.read();
      if (bytes === undefined) {
        this.#idle = { state: 'off', detail: undefined };
        return;
      }
      this.#keptSha256 = createHash('sha256').update(bytes).digest('hex');
      if (await this.#forgetActivated(host.active?.sha256)) return;
      const candidate = await host.openCandidate(bytes, this.#closing.signal);
      try {
        this.#check(candidate);
      } catch (error) {
        await candidate.close();
        if (await this.#forgetActivated(host.active?.sha256)) return;
        throw error;
      }
      await this.#replace(candidate);
    } catch (error) {
      await this.#end('refused');
      if (this.#isClosing()) return;
      this.#idle = { state: 'refused', detail: messageOf(error) };
      logger.error({ cause: messageOf(error) }, 'the shadow bundle cannot be started; it is tried again');
      this.#retry = this.#deps.clock.after(RETRY_MS, () => void this.#change(() => this.#resume())).unref();
    }
  }

  #activated(sha256: string): void {
    // Also one that does not run, because it failed or was refused.
    if (sha256 === this.#keptSha256) void this.#change(() => this.#forgetActivated(sha256));
    else if (this.#deps.hasGrantsFile() && this.#run !== undefined) void this.#change(() => this.#resume());
  }

  /** Another may be kept by then. */
  async #forgetActivated(sha256: string | undefined): Promise<boolean> {
    if (sha256 === undefined || sha256 !== this.#keptSha256) return false;
    await this.#forget('activated');
    return true;
  }

  /** Other keys count: what they do not vouch for sees no decision from this tick on, as the active bundle makes none. */
  #trusted(): void {
    const run = this.#run;
    if (run === undefined && this.#idle.state === 'refused') void this.#change(() => this.#resume());
    if (run === undefined || run.isTrusted) return;
    this.#run = undefined;
    this.#idle = { state: 'starting', detail: undefined };
    this.#deps.logger.error(
      { sha256: run.bundle.sha256 },
      'the key that verified the shadow bundle counts no more',
    );
    void this.#change(async () => {
      await run.end('bundle_untrusted');
      // Its signature may be one that they vouch for.
      if (this.#run === undefined) await this.#resume();
    });
  }

  async #fail(run: ShadowRun): Promise<void> {
    if (this.#run !== run) return;
    const detail = run.lastError;
    await this.#end('no_answer');
    this.#idle = { state: 'failed', detail };
    this.#deps.logger.error({ detail }, 'the shadow bundle gives no answers and is evaluated no more');
  }

  async #forget(why: string): Promise<void> {
    this.#retry?.cancel();
    this.#store.forget();
    this.#keptSha256 = undefined;
    await this.#end(why);
    this.#idle = { state: 'off', detail: undefined };
    this.#deps.logger.info({ why }, 'shadow bundle ended');
  }

  async #end(reason: string): Promise<void> {
    const run = this.#run;
    this.#run = undefined;
    await run?.end(reason);
  }

  async #record(action: string, detail: object, reason: string | undefined): Promise<void> {
    await this.#deps.audit.record(this.#action(action, detail, reason));
  }

  #action(action: string, detail: object, reason: string | undefined): AuditEventInput {
    const { subject } = this.#deps;
    return {
      type: 'admin.action',
      subject: { ...subject, actor: `operator of ${subject.agent}` },
      data: { action, detail, ...(reason === undefined ? {} : { reason }) },
    };
  }
}
