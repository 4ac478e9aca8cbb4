import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Clock, type ErrorCode, isAppError, type Logger, messageOf } from '../runtime/index.ts';
import { acceptBundle } from './bundle/acceptance.ts';
import { type Bundle, type BundleTrust, readBundle } from './bundle/bundle.ts';
import { Freshness, type FreshnessStatus } from './bundle/freshness.ts';
import { readGrants } from './bundle/grants.ts';
import { LastGood } from './bundle/last-good.ts';
import { SequenceGuard } from './bundle/sequence-guard.ts';
import type { VerificationKey } from './bundle/signature.ts';
import { FileWatch } from './bundle/watch.ts';
import type { EvaluationRequest } from './engine/messages.ts';
import { EnginePool, type EngineStats, type EvaluationOutcome, type Lane } from './engine/pool.ts';
import type { PolicyErrorCode } from './errors.ts';

/** The bundle that decides now. */
export interface ActiveBundle {
  readonly sha256: string;
  readonly revision: string;
  readonly sequence: number;
  /** The configured id of the key that verified its signature; undefined when none was asked for. */
  readonly signedBy: string | undefined;
  /** Rises with every activation, grants reloads included; never reused in a process. */
  readonly generation: number;
  /** Wall clock of the activation, milliseconds since the epoch. */
  readonly activatedMs: number;
  /** The archive, for the audit's own copy. */
  readonly bytes: Buffer;
}

/** A bundle or grants file that was not activated; the one before stays. */
export interface RejectedBundle {
  readonly atMs: number;
  readonly code: ErrorCode;
  readonly message: string;
}

/** Repeated engine failures of one kind of stream. */
export interface PolicyAlarm {
  /** Connection, a space, and principal or `publish`. */
  readonly kind: string;
  readonly failures: number;
}

export interface PolicyStatus {
  readonly active: Omit<ActiveBundle, 'bytes'> | undefined;
  readonly rejected: RejectedBundle | undefined;
  readonly freshness: FreshnessStatus;
  readonly engine: EngineStats | undefined;
}

export interface PolicyHostOptions {
  /** Where the bundle comes from: a file that is watched, or a source of this name that calls `offer`. */
  readonly source: { readonly file: string } | { readonly name: string };
  /** Everything is denied when the source has not confirmed its bundle for this long; default: no such limit. */
  readonly maxAgeMs?: number;
  /** Grants of their own (YAML or JSON), in place of the bundle's `data.sallyport.grants`; reloaded live. */
  readonly dataFile?: string;
  /** Where the last good bundle of this source is kept over restarts; absent = not kept. */
  readonly stateDir?: string;
  /** Evaluators working at a time, at least and by default two. */
  readonly workers?: number;
  /** Refuses bundles without a signature by one of `keys`. */
  readonly requireSigned?: boolean;
  /** With keys, a signature that is there must hold even where none is required. */
  readonly keys?: readonly VerificationKey[];
  /** Longest evaluation, milliseconds; default 100. */
  readonly budgetMs?: number;
  /** Longest wait of an open for an evaluator, milliseconds; default 250. */
  readonly openWaitMs?: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

const DRAIN_PERIOD_MS = 50;
/** A replaced engine that is still busy after this is closed all the same. */
const DRAIN_LIMIT_MS = 2_000;

/** What became of a bundle that a source offered. */
export type OfferOutcome = 'active' | 'refused';

interface Running {
  readonly bundle: ActiveBundle;
  readonly pool: EnginePool;
}

/**
 * Keeps one bundle active and its engine running. Files are watched; a new bundle or grants file is read,
 * started beside the old one and made to answer its canary and vectors before one assignment swaps them. Any
 * failure leaves the old one deciding. Without a good bundle nothing is active and every decision is `no_bundle`.
 */
export class PolicyHost {
  readonly #options: PolicyHostOptions;
  readonly #activated = new Set<(bundle: ActiveBundle) => void>();
  readonly #rejectedListeners = new Set<(rejected: RejectedBundle) => void>();
  readonly #alarmed = new Set<(alarm: PolicyAlarm) => void>();
  readonly #sourceName: string;
  readonly #watch: FileWatch;
  readonly #draining = new Set<EnginePool>();
  #running: Running | undefined;
  #rejected: RejectedBundle | undefined;
  #generation = 0;
  /** Kept over restarts by the last good bundle. */
  readonly #sequences = new SequenceGuard();
  readonly #lastGood: LastGood;
  readonly #trust: BundleTrust;
  readonly #freshness: Freshness;
  readonly #flipped = new Set<(status: FreshnessStatus) => void>();
  #loading: Promise<void> = Promise.resolve();
  #loaded = '';
  #closed = false;

  private constructor(options: PolicyHostOptions) {
    this.#options = options;
    const { source, dataFile, stateDir, logger, keys, requireSigned, clock, maxAgeMs } = options;
    const bundleFiles = 'file' in source ? [source.file] : [];
    this.#sourceName = 'file' in source ? resolve(source.file) : source.name;
    this.#lastGood = new LastGood(stateDir, this.#sourceName, logger);
    this.#trust = { keys: keys ?? [], requireSigned: requireSigned ?? false };
    this.#freshness = new Freshness(clock, maxAgeMs, () => this.#onFlip());
    const files = dataFile === undefined ? bundleFiles : [...bundleFiles, dataFile];
    this.#watch = new FileWatch(files, clock, () => void this.reload());
  }

  /**
   * Opens the bundle and watches it. A missing, corrupt or refused bundle is no error: `active` stays undefined
   * (or is the last good one) until a good one is there.
   */
  static async open(options: PolicyHostOptions): Promise<PolicyHost> {
    const host = new PolicyHost(options);
    await host.#watch.remember();
    const lastGood = await host.#lastGood.read();
    if (lastGood !== undefined) await host.#rememberSequence(lastGood);
    await host.reload();
    if (host.active === undefined && lastGood !== undefined) await host.#useLastGood(lastGood);
    return host;
  }

  get active(): ActiveBundle | undefined {
    return this.#running?.bundle;
  }

  /** Changes whenever decisions may; callers compare it in the tick in which they register what was decided. */
  get generation(): number {
    return this.#generation;
  }

  status(): PolicyStatus {
    const active = this.#running?.bundle;
    return {
      active: active && {
        sha256: active.sha256,
        revision: active.revision,
        sequence: active.sequence,
        signedBy: active.signedBy,
        generation: active.generation,
        activatedMs: active.activatedMs,
      },
      rejected: this.#rejected,
      freshness: this.#freshness.status(),
      engine: this.#running?.pool.stats(),
    };
  }

  /** Calls back in the tick of every activation; returns the way to stop. */
  onActivated(call: (bundle: ActiveBundle) => void): () => void {
    this.#activated.add(call);
    return () => void this.#activated.delete(call);
  }

  onRejected(call: (rejected: RejectedBundle) => void): () => void {
    this.#rejectedListeners.add(call);
    return () => void this.#rejectedListeners.delete(call);
  }

  /** Calls back when the bundle's source has been silent for too long, and when it is heard again. */
  onFreshness(call: (status: FreshnessStatus) => void): () => void {
    this.#flipped.add(call);
    return () => void this.#flipped.delete(call);
  }

  /** Set while everything is denied because the source has been silent for too long. */
  get stale(): FreshnessStatus | undefined {
    return this.#freshness.isStale ? this.#freshness.status() : undefined;
  }

  /** Calls back once each time one kind of stream fails repeatedly in the engine. */
  onAlarm(call: (alarm: PolicyAlarm) => void): () => void {
    this.#alarmed.add(call);
    return () => void this.#alarmed.delete(call);
  }

  /** Reads the files again now; resolves when their content is active or refused. Never rejects. */
  reload(): Promise<void> {
    this.#loading = this.#loading.then(() => this.#load());
    return this.#loading;
  }

  /**
   * Takes a bundle from its source, which thereby confirms it when it is (or is made) the active one. Never rejects: a
   * refused bundle is in the status, as one from a file is.
   */
  offer(bytes: Buffer): Promise<OfferOutcome> {
    const offered = this.#loading.then(() => this.#take(bytes));
    this.#loading = offered.then(() => undefined);
    return offered;
  }

  /** The source says that what it gave last is still right, now or `agoMs` ago. */
  confirm(agoMs = 0): void {
    // What was refused meanwhile is no longer what the source gives.
    if (agoMs === 0) this.#rejected = undefined;
    this.#freshness.confirm(agoMs);
  }

  /** One evaluation by the active engine; never rejects. */
  evaluate(request: EvaluationRequest, kind: string, lane: Lane): Promise<EvaluationOutcome> {
    if (this.#running !== undefined) return this.#running.pool.evaluate(request, kind, lane);
    return Promise.resolve({ kind: 'failed', reason: 'policy_error', detail: 'no engine', evalUs: 0 });
  }

  /** The active engine, for fault tests. */
  get engine(): EnginePool | undefined {
    return this.#running?.pool;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watch.close();
    this.#freshness.close();
    await this.#loading;
    const pools = [...this.#draining, ...(this.#running === undefined ? [] : [this.#running.pool])];
    this.#running = undefined;
    this.#generation += 1;
    await Promise.all(pools.map((pool) => pool.close()));
  }

  async #load(): Promise<void> {
    const { source } = this.#options;
    const { active } = this;
    if ('file' in source) {
      const bytes = await readFile(source.file).catch((thrown: unknown) => this.#reject(thrown));
      if (bytes !== undefined) await this.#take(bytes);
    } else if (active !== undefined) {
      await this.#take(active.bytes);
    }
  }

  async #take(bytes: Buffer): Promise<OfferOutcome> {
    if (this.#closed) return 'refused';
    try {
      const grants = await this.#readGrants();
      const bundle = await readBundle(bytes, this.#trust);
      const content = `${bundle.sha256} ${grants ?? ''}`;
      if (content === this.#loaded) {
        this.#rejected = undefined;
      } else {
        await this.#activate(bundle, grants);
        this.#loaded = content;
        this.#lastGood.keep(bytes);
      }
      return 'active';
    } catch (thrown) {
      this.#reject(thrown);
      return 'refused';
    }
  }

  async #readGrants(): Promise<string | undefined> {
    const { dataFile } = this.#options;
    return dataFile === undefined ? undefined : readGrants(await readFile(dataFile));
  }

  /** Decisions may be others from now on, as after an activation. */
  #onFlip(): void {
    this.#generation += 1;
    const status = this.#freshness.status();
    const { logger } = this.#options;
    const what = { source: this.#sourceName, age_ms: status.ageMs, max_age_ms: status.maxAgeMs };
    if (status.isStale) logger.error(what, 'the source of the policy bundle is silent; everything is denied');
    else logger.info(what, 'the source of the policy bundle is heard');
    for (const call of this.#flipped) call(status);
  }

  /** The number counts even where the bundle itself may not: its key may be gone from the configuration. */
  async #rememberSequence(bytes: Buffer): Promise<void> {
    try {
      this.#sequences.adopt(await readBundle(bytes));
    } catch (thrown) {
      this.#lastGood.unusable(thrown);
    }
  }

  async #useLastGood(bytes: Buffer): Promise<void> {
    const rejected = this.#rejected;
    try {
      const grants = await this.#readGrants();
      const bundle = await readBundle(bytes, this.#trust);
      await this.#activate(bundle, grants);
      this.#loaded = `${bundle.sha256} ${grants ?? ''}`;
      this.#rejected = rejected;
      const source = this.#sourceName;
      this.#options.logger.warn({ source }, 'the last good bundle is active until its source gives another');
    } catch (thrown) {
      this.#lastGood.unusable(thrown);
    }
  }

  async #activate(bundle: Bundle, grants: string | undefined): Promise<void> {
    const { clock, logger } = this.#options;
    this.#sequences.check(bundle);
    const pool = await this.#startEngine(bundle, grants);
    if (this.#closed) {
      await pool.close();
      return;
    }
    const previous = this.#running?.pool;
    // The swap: from here on every decision is the new bundle's, and `generation` tells older ones apart.
    this.#generation += 1;
    this.#sequences.adopt(bundle);
    this.#running = {
      pool,
      bundle: {
        sha256: bundle.sha256,
        revision: bundle.revision,
        sequence: bundle.sequence,
        signedBy: bundle.signedBy,
        generation: this.#generation,
        activatedMs: clock.nowMs(),
        bytes: bundle.bytes,
      },
    };
    this.#rejected = undefined;
    if (previous !== undefined) this.#drain(previous);
    const { sha256, revision, sequence } = bundle;
    logger.info({ sha256, revision, sequence, generation: this.#generation }, 'policy bundle activated');
    for (const call of this.#activated) call(this.#running.bundle);
  }

  async #startEngine(bundle: Bundle, grants: string | undefined): Promise<EnginePool> {
    const { clock, workers, budgetMs, openWaitMs } = this.#options;
    const program = {
      module: bundle.module,
      dataText: bundle.dataText,
      ...(grants === undefined ? {} : { grantsText: grants }),
    };
    const pool = await EnginePool.open(program, {
      clock,
      onAlarm: (kind, failures) => this.#alarm({ kind, failures }),
      ...(workers === undefined ? {} : { workers }),
      ...(budgetMs === undefined ? {} : { budgetMs }),
      ...(openWaitMs === undefined ? {} : { openWaitMs }),
    });
    try {
      await acceptBundle(pool, bundle);
    } catch (error) {
      await pool.close();
      throw error;
    }
    return pool;
  }

  /** What was asked of the old engine is still answered by it, under the generation it was asked in. */
  #drain(pool: EnginePool): void {
    this.#draining.add(pool);
    const { clock } = this.#options;
    const startedMs = clock.monotonicMs();
    const timer = clock.every(DRAIN_PERIOD_MS, () => {
      if (pool.busy && clock.monotonicMs() - startedMs < DRAIN_LIMIT_MS) return;
      timer.cancel();
      this.#draining.delete(pool);
      void pool.close();
    });
    timer.unref();
  }

  #alarm(alarm: PolicyAlarm): void {
    this.#options.logger.error(alarm, 'policy evaluation fails repeatedly; these streams are denied');
    for (const call of this.#alarmed) call(alarm);
  }

  #reject(thrown: unknown): void {
    const { clock, logger } = this.#options;
    const code = isAppError(thrown) ? thrown.code : ('ERR_POLICY_BUNDLE' satisfies PolicyErrorCode);
    this.#rejected = { atMs: clock.nowMs(), code, message: messageOf(thrown) };
    const { message } = this.#rejected;
    const source = this.#sourceName;
    logger.error({ source, code, cause: message }, 'policy bundle refused; the one before stays');
    for (const call of this.#rejectedListeners) call(this.#rejected);
  }
}
