import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { isAppError, messageOf } from '../runtime/index.ts';
import { acceptBundle } from './bundle/acceptance.ts';
import { type Bundle, type BundleTrust, readBundle } from './bundle/bundle.ts';
import { Freshness, type FreshnessStatus } from './bundle/freshness.ts';
import { readGrants } from './bundle/grants.ts';
import { LastGood } from './bundle/last-good.ts';
import { SequenceGuard } from './bundle/sequence-guard.ts';
import { FileWatch } from './bundle/watch.ts';
import type { EvaluationRequest } from './engine/messages.ts';
import { EnginePool, type EvaluationOutcome, type Lane } from './engine/pool.ts';
import type { PolicyErrorCode } from './errors.ts';
import type {
  ActiveBundle,
  Decider,
  HeldBundle,
  OfferOutcome,
  PolicyAlarm,
  PolicyHostOptions,
  PolicyStatus,
  RejectedBundle,
  Review,
} from './host-contract.ts';

const DRAIN_PERIOD_MS = 50;
/** A replaced engine that is still busy after this is closed all the same. */
const DRAIN_LIMIT_MS = 2_000;

/** Tells what is decided by: a bundle and, where they are a file of their own, its grants. */
const idOf = ({ sha256 }: Bundle, grants: string | undefined): string =>
  grants === undefined ? sha256 : createHash('sha256').update(`${sha256} ${grants}`).digest('hex');

interface Running {
  readonly bundle: ActiveBundle;
  readonly pool: EnginePool;
}

/**
 * Keeps one bundle active and its engine running. Files are watched; a new bundle or grants file is read,
 * started beside the old one and made to answer its canary and vectors before one assignment swaps them. Any
 * failure leaves the old one deciding. Without a good bundle nothing is active and every decision is `no_bundle`.
 */
export class PolicyHost implements Decider {
  readonly #options: PolicyHostOptions;
  readonly #activated = new Set<(bundle: ActiveBundle) => void>();
  readonly #rejectedListeners = new Set<(rejected: RejectedBundle) => void>();
  readonly #alarmed = new Set<(alarm: PolicyAlarm) => void>();
  readonly #sourceName: string;
  readonly #watch: FileWatch;
  readonly #draining = new Set<EnginePool>();
  readonly #heldListeners = new Set<(held: HeldBundle) => void>();
  #review: Review | undefined;
  #held:
    | { readonly shown: HeldBundle; readonly bundle: Bundle; readonly grants: string | undefined }
    | undefined;
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
      held: this.#held?.shown,
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

  /** Every activation that replaces another is looked at first; one that is held waits for `activateHeld`. */
  reviewBy(review: Review): void {
    this.#review = review;
  }

  /** Calls back when an activation is held that was not held before. */
  onHeld(call: (held: HeldBundle) => void): () => void {
    this.#heldListeners.add(call);
    return () => void this.#heldListeners.delete(call);
  }

  /** Activates what is held, whatever it closes. False when something else is held by now, or it is refused. */
  activateHeld(id: string): Promise<boolean> {
    const activated = this.#loading.then(async () => {
      const held = this.#held;
      if (held?.shown.id !== id || this.#closed) return false;
      try {
        await this.#activate(held.bundle, held.grants, true);
        return true;
      } catch (thrown) {
        this.#reject(thrown);
        return false;
      }
    });
    this.#loading = activated.then(() => undefined);
    return activated;
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
      if (idOf(bundle, grants) !== this.#loaded) return await this.#activate(bundle, grants);
      this.#rejected = undefined;
      this.#held = undefined;
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
      this.#rejected = rejected;
      const source = this.#sourceName;
      this.#options.logger.warn({ source }, 'the last good bundle is active until its source gives another');
    } catch (thrown) {
      this.#lastGood.unusable(thrown);
    }
  }

  async #activate(bundle: Bundle, grants: string | undefined, isConfirmed = false): Promise<OfferOutcome> {
    const { clock, logger } = this.#options;
    this.#sequences.check(bundle);
    const pool = await this.#startEngine(bundle, grants);
    const isHeld = !isConfirmed && (await this.#isToBeHeld(bundle, grants, pool));
    if (this.#closed || isHeld) {
      await pool.close();
      return isHeld ? 'held' : 'refused';
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
    this.#held = undefined;
    this.#loaded = idOf(bundle, grants);
    this.#lastGood.keep(bundle.bytes);
    if (previous !== undefined) this.#drain(previous);
    const { sha256, revision, sequence } = bundle;
    logger.info({ sha256, revision, sequence, generation: this.#generation }, 'policy bundle activated');
    for (const call of this.#activated) call(this.#running.bundle);
    return 'active';
  }

  /** Asks what the activation would close; while it is held its engine is not kept, it is made again. */
  async #isToBeHeld(bundle: Bundle, grants: string | undefined, pool: EnginePool): Promise<boolean> {
    if (this.#review === undefined || this.#running === undefined) return false;
    const { clock, logger } = this.#options;
    const { sha256, revision, sequence, signedBy, bytes } = bundle;
    const generation = this.#generation;
    const candidate: Decider = {
      active: { sha256, revision, sequence, signedBy, generation, activatedMs: clock.nowMs(), bytes },
      generation,
      stale: undefined,
      evaluate: (request, kind, lane) => pool.evaluate(request, kind, lane),
    };
    let review: Awaited<ReturnType<Review>>;
    try {
      review = await this.#review(candidate);
    } catch (error) {
      await pool.close();
      throw error;
    }
    const { isHeld, wouldClose, live } = review;
    if (!isHeld) return false;
    const id = idOf(bundle, grants);
    const isNews = this.#held?.shown.id !== id;
    const shown = { id, sha256, revision, sequence, atMs: clock.nowMs(), wouldClose, live };
    this.#held = { shown, bundle, grants };
    this.#rejected = undefined;
    if (!isNews) return true;
    logger.warn(shown, 'activation held: it would close many live streams; confirm it by `policy activate`');
    for (const call of this.#heldListeners) call(shown);
    return true;
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
    const message = messageOf(thrown);
    const isNews = this.#rejected?.message !== message;
    this.#rejected = { atMs: clock.nowMs(), code, message };
    const source = this.#sourceName;
    // A server gives what was refused again at every poll.
    if (isNews) logger.error({ source, code, cause: message }, 'policy bundle refused; the one before stays');
    for (const call of this.#rejectedListeners) call(this.#rejected);
  }
}
