import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { AppError, isAppError, messageOf, type Timer } from '../runtime/index.ts';
import { acceptBundle, acceptGrants } from './bundle/acceptance.ts';
import { type Bundle, type BundleTrust, readBundle } from './bundle/bundle.ts';
import type { FreshnessStatus } from './bundle/freshness.ts';
import { readGrantsFile, refusedGrants } from './bundle/grants-file.ts';
import { Origin, type OriginOptions } from './bundle/origin.ts';
import { isVouchedFor, voucherOf } from './bundle/trust.ts';
import { Candidate } from './candidate.ts';
import type { EvaluationRequest } from './engine/messages.ts';
import { EnginePool, type EvaluationOutcome, type Lane } from './engine/pool.ts';
import type { PolicyErrorCode } from './errors.ts';
import type {
  ActiveBundle,
  ActiveGrants,
  CloseReview,
  ConfirmedActivation,
  Decider,
  HeldBundle,
  OfferOutcome,
  PolicyAlarm,
  PolicyHostOptions,
  PolicyStatus,
  RejectedBundle,
  Review,
  WithdrawnBundle,
} from './host-contract.ts';

const DRAIN_PERIOD_MS = 50;
/** A replaced engine that is still busy after this is closed all the same. */
const DRAIN_LIMIT_MS = 2_000;
/** A server that bundles come from all at once has this long to give one. */
export const MOVE_LIMIT_MS = 10_000;

const digestOf = (content: string | Buffer): string => createHash('sha256').update(content).digest('hex');

/** The code of everything that is wrong with grants rather than with a bundle. */
const GRANTS_REFUSED = 'ERR_POLICY_GRANTS' satisfies PolicyErrorCode;

/** Tells what is decided by: a bundle and, where they are a file of their own, its grants. */
const idOf = ({ sha256 }: Bundle, grants: ActiveGrants | undefined): string =>
  grants === undefined ? sha256 : digestOf(`${sha256} ${grants.sha256}`);

const activeOf = (
  { sha256, revision, sequence, signedBy, bytes, catalog }: Bundle,
  grants: ActiveGrants | undefined,
  generation: number,
  activatedMs: number,
): ActiveBundle => ({
  sha256,
  revision,
  sequence,
  signedBy,
  generation,
  activatedMs,
  bytes,
  catalog,
  grants,
});

/** The grants that a bundle may be activated with, the wanted ones first; undefined where its own decide. */
interface GrantsChoice {
  readonly choices: readonly (ActiveGrants | undefined)[];
  /** Whether the file's grants wait for a confirmation under the bundle that decides. */
  readonly isHeld: boolean;
}

interface Running {
  readonly bundle: ActiveBundle;
  /** What it was read as, for what may be asked of it later. */
  readonly source: Bundle;
  readonly pool: EnginePool;
  readonly origin: Origin;
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
  #origin: Origin;
  /** Whether the source that bundles come from has been asked for one. */
  #isOriginTried = true;
  #moveTimer: Timer | undefined;
  readonly #draining = new Set<EnginePool>();
  readonly #heldListeners = new Set<(held: HeldBundle) => void>();
  readonly #restored = new Set<() => void>();
  #review: Review | undefined;
  #held:
    | { readonly shown: HeldBundle; readonly bundle: Bundle; readonly grants: ActiveGrants | undefined }
    | undefined;
  #confirmed: ConfirmedActivation | undefined;
  #running: Running | undefined;
  #rejected: RejectedBundle | undefined;
  #grantsRejected: RejectedBundle | undefined;
  /** The grants of a file that decided last. */
  #grantsBefore: { readonly file: string; readonly grants: ActiveGrants } | undefined;
  /** What the source gave and no grants were there for. */
  #waiting: Buffer | undefined;
  #generation = 0;
  #trust: BundleTrust;
  #withdrawn: WithdrawnBundle | undefined;
  readonly #withdrawnListeners = new Set<(withdrawn: WithdrawnBundle) => void>();
  readonly #trustListeners = new Set<() => void>();
  readonly #flipped = new Set<(status: FreshnessStatus) => void>();
  #loading: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(options: PolicyHostOptions) {
    this.#options = options;
    const { keys, requireSigned } = options;
    this.#origin = this.#originOf(options);
    this.#trust = { keys: keys ?? [], requireSigned: requireSigned ?? false };
  }

  /**
   * Opens the bundle and watches it. A missing, corrupt or refused bundle is no error: `active` stays undefined
   * (or is the last good one) until a good one is there.
   */
  static async open(options: PolicyHostOptions): Promise<PolicyHost> {
    const host = new PolicyHost(options);
    host.#loading = host.#begin(host.#origin);
    await host.#loading;
    return host;
  }

  get active(): ActiveBundle | undefined {
    return this.#running?.bundle;
  }

  /** The active bundle, where it came from the source that bundles come from now. */
  get current(): ActiveBundle | undefined {
    return this.isMoving ? undefined : this.active;
  }

  /** Bundles come from another source by now than the one that decides: it decides until that has one to take over. */
  get isMoving(): boolean {
    return this.#running !== undefined && this.#running.origin !== this.#origin;
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
        ...(active.grants === undefined ? {} : { grantsSha256: active.grants.sha256 }),
      },
      held: this.#held?.shown,
      confirmed: this.#confirmed,
      rejected: this.#rejected,
      grantsRejected: this.#grantsRejected,
      grantsFile: this.#origin.dataFile,
      withdrawn: this.#withdrawn,
      isMoving: this.isMoving,
      freshness: this.#origin.freshness.status(),
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

  /** Calls back in the tick in which the active bundle is withdrawn, because no key that counts vouches for it. */
  onWithdrawn(call: (withdrawn: WithdrawnBundle) => void): () => void {
    this.#withdrawnListeners.add(call);
    return () => void this.#withdrawnListeners.delete(call);
  }

  /** Calls back in the tick from which on other keys count. */
  onTrust(call: () => void): () => void {
    this.#trustListeners.add(call);
    return () => void this.#trustListeners.delete(call);
  }

  /** Set while no bundle decides because the one that did is vouched for no more, or came from elsewhere. */
  get withdrawn(): WithdrawnBundle | undefined {
    return this.#withdrawn;
  }

  /**
   * From this tick on these keys count and no others. The active bundle goes on only if one of them is the key that
   * verified it; else it is withdrawn at once, and everything is denied until a bundle is there that they vouch for.
   * Resolves when what was withdrawn and what the source has were judged by them. Never rejects.
   */
  trust(trust: BundleTrust): Promise<void> {
    this.#trust = trust;
    if (this.#held !== undefined && !isVouchedFor(this.#held.bundle, trust)) this.#held = undefined;
    const running = this.#running;
    if (running !== undefined && !isVouchedFor(running.source, trust)) this.#untrust(running);
    else if (running !== undefined) {
      const signer = voucherOf(running.source, trust);
      const bundle = { ...running.bundle, signedBy: signer?.id };
      this.#running = { ...running, bundle, source: { ...running.source, signer, signedBy: signer?.id } };
    }
    for (const call of this.#trustListeners) call();
    const withdrawn = this.#running === undefined ? running?.bundle.bytes : undefined;
    this.#loading = this.#loading.then(async () => {
      // Its signature may be one that nobody has looked at.
      if (withdrawn !== undefined && this.#running === undefined)
        await this.#take(withdrawn, running?.origin);
      await this.#load();
      this.#endMove();
    });
    return this.#loading;
  }

  /**
   * From this tick on bundles come from there and from nowhere else. What is active goes on (`isMoving`) until a bundle of
   * the new source takes over or is held, reviewed like any other; when the new source gives no good one it is
   * withdrawn, and everything is denied: a file and the last good bundle of a server at once, a server that was not
   * heard after `MOVE_LIMIT_MS`. Resolves when what is on this machine was tried. Never rejects.
   */
  moveTo(options: OriginOptions): Promise<void> {
    const origin = this.#originOf(options);
    this.#origin.close();
    this.#origin = origin;
    this.#isOriginTried = false;
    this.#held = undefined;
    this.#rejected = undefined;
    this.#grantsRejected = undefined;
    this.#waiting = undefined;
    this.#withdrawn = undefined;
    this.#generation += 1;
    this.#moveTimer?.cancel();
    this.#options.logger.info({ source: origin.name }, 'policy bundles come from another source');
    this.#loading = this.#loading.then(async () => {
      await this.#begin(origin);
      if ('file' in origin.source) this.#tried(origin);
    });
    if ('name' in origin.source) {
      this.#moveTimer = this.#options.clock.after(MOVE_LIMIT_MS, () => this.#tried(origin)).unref();
    }
    return this.#loading;
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

  /** Calls back when the source gives the active bundle again after one that was refused or held. */
  onRestored(call: () => void): () => void {
    this.#restored.add(call);
    return () => void this.#restored.delete(call);
  }

  /** The path of the bundle's file, or the name of its source. */
  get sourceName(): string {
    return this.#origin.name;
  }

  /** Activates what is held, whatever it closes. False when something else is held by now, or it is refused. */
  activateHeld(id: string): Promise<boolean> {
    const activated = this.#loading.then(async () => {
      const held = this.#held;
      if (held?.shown.id !== id || this.#closed) return false;
      try {
        await this.#activate(held.bundle, held.grants, this.#origin, held.shown);
        return true;
      } catch (thrown) {
        this.#reject(thrown, held.bundle.sha256);
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
    // Of a source that nothing active came from nobody expects to have been heard.
    const { freshness } = this.#origin;
    return freshness.isStale && !this.isMoving ? freshness.status() : undefined;
  }

  /** Calls back once each time one kind of stream fails repeatedly in the engine. */
  onAlarm(call: (alarm: PolicyAlarm) => void): () => void {
    this.#alarmed.add(call);
    return () => void this.#alarmed.delete(call);
  }

  /** Reads the files again now; resolves when their content is active or refused. Never rejects. */
  reload(): Promise<void> {
    this.#loading = this.#loading.then(async () => {
      await this.#load();
      this.#endMove();
    });
    return this.#loading;
  }

  /**
   * Takes a bundle from its source, which thereby confirms it when it is (or is made) the active one. Never rejects: a
   * refused bundle is in the status, as one from a file is.
   */
  offer(bytes: Buffer): Promise<OfferOutcome> {
    const origin = this.#origin;
    const offered = this.#loading.then(async () => {
      const outcome = await this.#take(bytes, origin);
      // It waits for a grants file only: its source was heard.
      if (this.#waiting === bytes) origin.freshness.confirm();
      this.#tried(origin);
      return outcome;
    });
    this.#loading = offered.then(() => undefined);
    return offered;
  }

  /** The source says that what it gave last is still right, now or `agoMs` ago. */
  confirm(agoMs = 0): void {
    // What was refused meanwhile is no longer what the source gives.
    if (agoMs === 0 && this.#rejected !== undefined) this.#restore(this.#held === undefined);
    this.#origin.freshness.confirm(agoMs);
  }

  /** One evaluation by the active engine; never rejects. */
  evaluate(request: EvaluationRequest, kind: string, lane: Lane): Promise<EvaluationOutcome> {
    if (this.#running !== undefined) return this.#running.pool.evaluate(request, kind, lane);
    return Promise.resolve({ kind: 'failed', reason: 'policy_error', detail: 'no engine', evalUs: 0 });
  }

  /**
   * Starts a bundle beside the active one, in threads that give way to everything else. It passes what an activation
   * asks of it (signature, bounds, canary, vectors, with the grants of now) but for its sequence, and is never activated.
   * @param signal ends the start
   * @throws AppError as reading, starting and accepting a bundle do
   */
  async openCandidate(bytes: Buffer, signal: AbortSignal): Promise<Candidate> {
    const { dataFile } = this.#origin;
    const grants =
      dataFile === undefined
        ? undefined
        : await readGrantsFile(dataFile).catch((thrown: unknown) => this.#grantsOfBefore(dataFile, thrown));
    const bundle = await readBundle(bytes, this.#trust);
    let sequenceProblem: string | undefined;
    try {
      this.#origin.sequences.check(bundle);
    } catch (thrown) {
      sequenceProblem = messageOf(thrown);
    }
    const pool = await this.#startInTime(bundle, grants, signal);
    return this.#candidate(bundle, grants, pool, sequenceProblem);
  }

  /** The active engine, for fault tests. */
  get engine(): EnginePool | undefined {
    return this.#running?.pool;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#origin.close();
    this.#moveTimer?.cancel();
    await this.#loading;
    const pools = [...this.#draining, ...(this.#running === undefined ? [] : [this.#running.pool])];
    this.#running = undefined;
    this.#generation += 1;
    await Promise.all(pools.map((pool) => pool.close()));
  }

  #originOf(options: OriginOptions): Origin {
    const { stateDir, clock, logger } = this.#options;
    return new Origin(options, {
      stateDir,
      clock,
      logger,
      onFileChange: () => void this.reload(),
      onFlip: () => this.#onFlip(),
    });
  }

  /** Takes what a source has on this machine: its file, or else the last good bundle. */
  async #begin(origin: Origin): Promise<void> {
    await origin.watch.remember();
    const lastGood = await origin.lastGood.read();
    if (lastGood !== undefined) await this.#rememberSequence(lastGood, origin);
    await this.#load();
    if (this.current === undefined && this.#held === undefined && lastGood !== undefined) {
      await this.#useLastGood(lastGood, origin);
    }
  }

  /** The source that bundles come from had its chance. */
  #tried(origin: Origin): void {
    if (origin !== this.#origin) return;
    this.#isOriginTried = true;
    this.#endMove();
  }

  /** What came from another source does not go on when the new one has nothing for its place. */
  #endMove(): void {
    const running = this.#running;
    if (running === undefined || !this.isMoving || !this.#isOriginTried || this.#held !== undefined) return;
    const { name } = running.origin;
    this.#withdraw(running, `came from ${name}; bundles come from ${this.#origin.name} now, which gave none`);
  }

  async #load(): Promise<void> {
    const origin = this.#origin;
    const { current } = this;
    if ('file' in origin.source) {
      const bytes = await readFile(origin.source.file).catch((thrown: unknown) => {
        if (origin === this.#origin) this.#reject(thrown);
      });
      if (bytes !== undefined) await this.#take(bytes, origin);
      else if (current !== undefined) await this.#takeGrants(origin);
    } else {
      const bytes = current?.bytes ?? this.#waiting;
      if (bytes !== undefined) await this.#take(bytes, origin);
    }
  }

  /** What another source gave than the one that bundles come from now is refused. */
  async #take(bytes: Buffer, origin: Origin | undefined): Promise<OfferOutcome> {
    if (this.#closed || origin === undefined || origin !== this.#origin) return 'refused';
    const taken = await this.#takeGrants(origin);
    if (origin !== this.#origin) return 'refused';
    try {
      const bundle = await readBundle(bytes, this.#trust);
      if (taken === undefined) {
        this.#waiting = bytes;
        return 'refused';
      }
      if (bundle.sha256 !== this.current?.sha256)
        return await this.#activateWith(bundle, taken.choices, origin);
      if (taken.isHeld) return 'held';
      const isRestored = this.#rejected !== undefined || this.#held !== undefined;
      this.#held = undefined;
      this.#restore(isRestored);
      return 'active';
    } catch (thrown) {
      if (origin === this.#origin) this.#reject(thrown, digestOf(bytes));
      return 'refused';
    }
  }

  /** With the first of the grants that the bundle can be activated with. */
  async #activateWith(
    bundle: Bundle,
    [wanted, ...others]: GrantsChoice['choices'],
    origin: Origin,
  ): Promise<OfferOutcome> {
    try {
      return await this.#activate(bundle, wanted, origin);
    } catch (thrown) {
      if (others.length === 0 || !isAppError(thrown) || thrown.code !== GRANTS_REFUSED) throw thrown;
      return this.#activateWith(bundle, others, origin);
    }
  }

  /**
   * The grants file's part of every reading, before the bundle's: what it no longer grants must not wait for a bundle that
   * is refused or held. It takes over under the bundle that decides, or is refused by itself, and the grants before stay.
   * Undefined when it is refused and no grants were there before.
   */
  async #takeGrants(origin: Origin): Promise<GrantsChoice | undefined> {
    const { dataFile } = origin;
    if (dataFile === undefined) return { choices: [undefined], isHeld: false };
    let grants: ActiveGrants;
    try {
      grants = await readGrantsFile(dataFile);
    } catch (thrown) {
      const before = this.#grantsBefore?.file === dataFile ? this.#grantsBefore.grants : undefined;
      if (origin === this.#origin) this.#rejectGrants(dataFile, thrown);
      return before && { choices: [before], isHeld: false };
    }
    const running = this.current === undefined ? undefined : this.#running;
    if (running === undefined || running.bundle.grants?.sha256 === grants.sha256) {
      const isRestored = this.#grantsRejected !== undefined && running !== undefined;
      this.#grantsRejected = undefined;
      if (isRestored) for (const call of this.#restored) call();
      return { choices: [grants], isHeld: false };
    }
    try {
      const outcome = await this.#activate(running.source, grants, origin);
      return { choices: [grants], isHeld: outcome === 'held' };
    } catch (thrown) {
      if (origin === this.#origin) this.#rejectGrants(dataFile, thrown, grants.sha256);
      return { choices: [grants, running.bundle.grants], isHeld: false };
    }
  }

  #grantsOfBefore(file: string, thrown: unknown): ActiveGrants {
    if (this.#grantsBefore?.file !== file) throw thrown;
    return this.#grantsBefore.grants;
  }

  #rejectGrants(file: string, thrown: unknown, sha256?: string): void {
    const { clock, logger } = this.#options;
    const before = this.#grantsBefore?.file === file;
    const refused = refusedGrants(file, thrown, { atMs: clock.nowMs(), sha256, before });
    const isNews = this.#grantsRejected?.message !== refused.message;
    this.#grantsRejected = refused;
    if (isNews) logger.error({ file, code: refused.code }, refused.message);
    for (const call of this.#rejectedListeners) call(refused);
  }

  #restore(isNews: boolean): void {
    this.#rejected = undefined;
    if (isNews) for (const call of this.#restored) call();
  }

  /** Decisions may be others from now on, as after an activation. */
  #onFlip(): void {
    this.#generation += 1;
    const status = this.#origin.freshness.status();
    const { logger } = this.#options;
    const what = { source: this.#origin.name, age_ms: status.ageMs, max_age_ms: status.maxAgeMs };
    if (status.isStale) logger.error(what, 'the source of the policy bundle is silent; everything is denied');
    else logger.info(what, 'the source of the policy bundle is heard');
    for (const call of this.#flipped) call(status);
  }

  /** The number counts even where the bundle itself may not: its key may be gone from the configuration. */
  async #rememberSequence(bytes: Buffer, { sequences, lastGood }: Origin): Promise<void> {
    try {
      sequences.adopt(await readBundle(bytes));
    } catch (thrown) {
      lastGood.unusable(thrown);
    }
  }

  async #useLastGood(bytes: Buffer, origin: Origin): Promise<void> {
    const rejected = this.#rejected;
    const taken = await this.#takeGrants(origin);
    if (taken === undefined) {
      this.#waiting ??= bytes;
      return;
    }
    try {
      const bundle = await readBundle(bytes, this.#trust);
      if ((await this.#activateWith(bundle, taken.choices, origin)) !== 'active') return;
      this.#rejected = rejected;
      const source = origin.name;
      this.#options.logger.warn({ source }, 'the last good bundle is active until its source gives another');
    } catch (thrown) {
      origin.lastGood.unusable(thrown);
    }
  }

  async #activate(
    bundle: Bundle,
    grants: ActiveGrants | undefined,
    origin: Origin,
    confirmed?: HeldBundle,
  ): Promise<OfferOutcome> {
    const { clock, logger } = this.#options;
    origin.sequences.check(bundle);
    const pool = await this.#startEngine(bundle, grants);
    const isHeld = confirmed === undefined && (await this.#isToBeHeld(bundle, grants, pool, origin));
    const again = confirmed && (await this.#countAgain(bundle, grants, pool, confirmed));
    if (this.#closed || isHeld || origin !== this.#origin) {
      await pool.close();
      return isHeld ? 'held' : 'refused';
    }
    if (!isVouchedFor(bundle, this.#trust)) {
      await pool.close();
      const who = bundle.signedBy === undefined ? 'nobody' : `'${bundle.signedBy}'`;
      throw new AppError<PolicyErrorCode>(
        'ERR_POLICY_SIGNATURE',
        `the bundle was verified by ${who}, and other keys count by now`,
      );
    }
    const previous = this.#running?.pool;
    // The swap: from here on every decision is the new bundle's, and `generation` tells older ones apart.
    this.#generation += 1;
    origin.sequences.adopt(bundle);
    this.#running = {
      pool,
      origin,
      source: bundle,
      bundle: activeOf(bundle, grants, this.#generation, clock.nowMs()),
    };
    this.#rejected = undefined;
    this.#withdrawn = undefined;
    this.#held = undefined;
    this.#waiting = undefined;
    this.#confirmed = again;
    if (grants !== undefined && origin.dataFile !== undefined) {
      // Grants of a file that cannot be read have no digest and stay refused.
      if (this.#grantsRejected?.sha256 !== undefined && this.#grantsRejected.sha256 === grants.sha256)
        this.#grantsRejected = undefined;
      this.#grantsBefore = { file: origin.dataFile, grants };
    }
    origin.lastGood.keep(bundle.bytes);
    if (previous !== undefined) this.#drain(previous);
    const { sha256, revision, sequence } = bundle;
    logger.info({ sha256, revision, sequence, generation: this.#generation }, 'policy bundle activated');
    for (const call of this.#activated) call(this.#running.bundle);
    return 'active';
  }

  #untrust(running: Running): void {
    const { signedBy } = running.bundle;
    const why =
      signedBy === undefined
        ? 'was taken when no signature was asked for'
        : `is signed by '${signedBy}', which is none of the keys that count now`;
    this.#withdraw(running, why);
  }

  #withdraw({ bundle, pool }: Running, why: string): void {
    const { clock, logger } = this.#options;
    const { sha256, sequence, signedBy } = bundle;
    const message = `the active bundle (sequence ${String(sequence)}) ${why}`;
    this.#withdrawn = { atMs: clock.nowMs(), sha256, sequence, signedBy, message };
    this.#generation += 1;
    this.#running = undefined;
    this.#drain(pool);
    logger.error({ sha256, sequence, signed_by: signedBy }, `policy bundle withdrawn: ${message}`);
    for (const call of this.#withdrawnListeners) call(this.#withdrawn);
  }

  /** Asks what the activation would close; while it is held its engine is not kept, it is made again. */
  async #isToBeHeld(
    bundle: Bundle,
    grants: ActiveGrants | undefined,
    pool: EnginePool,
    origin: Origin,
  ): Promise<boolean> {
    if (this.#review === undefined || this.#running === undefined) return false;
    const { clock, logger } = this.#options;
    const { sha256, revision, sequence, signedBy } = bundle;
    const candidate = this.#candidate(bundle, grants, pool);
    let review: Awaited<ReturnType<Review>>;
    try {
      review = await this.#review(candidate);
    } catch (error) {
      await pool.close();
      throw error;
    }
    const { isHeld, wouldClose, live } = review;
    if (!isHeld || origin !== this.#origin) return false;
    const id = idOf(bundle, grants);
    const isNews = this.#held?.shown.id !== id;
    const shown: HeldBundle = {
      id,
      sha256,
      revision,
      sequence,
      signedBy,
      ...(grants === undefined ? {} : { grantsSha256: grants.sha256 }),
      atMs: clock.nowMs(),
      wouldClose,
      live,
    };
    this.#held = { shown, bundle, grants };
    this.#rejected = undefined;
    if (!isNews) return true;
    logger.warn(shown, 'activation held: it would close many live streams; confirm it by `policy activate`');
    for (const call of this.#heldListeners) call(shown);
    return true;
  }

  /** Streams came and went since it was held. Never rejects: it is confirmed, whatever can be counted. */
  async #countAgain(
    bundle: Bundle,
    grants: ActiveGrants | undefined,
    pool: EnginePool,
    held: HeldBundle,
  ): Promise<ConfirmedActivation> {
    const { clock, logger } = this.#options;
    let counted: CloseReview | undefined;
    try {
      const review = await this.#review?.(this.#candidate(bundle, grants, pool));
      counted = review && { wouldClose: review.wouldClose, live: review.live };
    } catch (error) {
      logger.warn({ cause: messageOf(error) }, 'what the confirmed activation closes was not counted again');
    }
    return { id: held.id, atMs: clock.nowMs(), counted, held };
  }

  #candidate(
    bundle: Bundle,
    grants: ActiveGrants | undefined,
    pool: EnginePool,
    sequenceProblem?: string,
  ): Candidate {
    const active = activeOf(bundle, grants, this.generation, this.#options.clock.nowMs());
    return new Candidate(active, pool, () => isVouchedFor(bundle, this.#trust), sequenceProblem);
  }

  /**
   * Starts a bundle's engine with the grants that it is to decide by. Its vectors bind it with its own data, so that a
   * bundle that does not decide yet is asked them in an engine without the file's grants.
   */
  async #startEngine(
    bundle: Bundle,
    grants: ActiveGrants | undefined,
    background?: AbortSignal,
  ): Promise<EnginePool> {
    const own = (pool: EnginePool): Promise<void> => acceptBundle(pool, bundle);
    if (grants === undefined) return this.#startAccepted(bundle, undefined, own, background);
    if (this.#running?.source.sha256 !== bundle.sha256) {
      await (await this.#startAccepted(bundle, undefined, own, background)).close();
    }
    const file = this.#origin.dataFile ?? 'the grants file';
    return this.#startAccepted(bundle, grants, (pool) => acceptGrants(pool, bundle, file), background);
  }

  async #startAccepted(
    bundle: Bundle,
    grants: ActiveGrants | undefined,
    accept: (pool: EnginePool) => Promise<void>,
    background: AbortSignal | undefined,
  ): Promise<EnginePool> {
    const { clock, workers, budgetMs, openWaitMs, startLimitMs } = this.#options;
    const program = {
      module: bundle.module,
      dataText: bundle.dataText,
      ...(grants === undefined ? {} : { grantsText: grants.text }),
    };
    const pool = await EnginePool.open(program, {
      clock,
      ...(background === undefined
        ? { onAlarm: (kind: string, failures: number) => this.#alarm({ kind, failures }) }
        : { isBackground: true }),
      ...(workers === undefined ? {} : { workers }),
      ...(budgetMs === undefined ? {} : { budgetMs }),
      ...(openWaitMs === undefined ? {} : { openWaitMs }),
      ...(startLimitMs === undefined ? {} : { startLimitMs }),
    });
    const stop = (): void => void pool.close();
    background?.addEventListener('abort', stop);
    if (background?.aborted === true) stop();
    try {
      await accept(pool);
    } catch (error) {
      await pool.close();
      throw error;
    } finally {
      background?.removeEventListener('abort', stop);
    }
    return pool;
  }

  /** Gives up at the signal even where a thread says nothing; what starts after that is closed. */
  async #startInTime(
    bundle: Bundle,
    grants: ActiveGrants | undefined,
    signal: AbortSignal,
  ): Promise<EnginePool> {
    signal.throwIfAborted();
    const starting = this.#startEngine(bundle, grants, signal);
    let giveUp = (): void => undefined;
    const aborted = new Promise<never>((_, reject) => {
      giveUp = () => reject(signal.reason as Error);
    });
    signal.addEventListener('abort', giveUp);
    try {
      return await Promise.race([starting, aborted]);
    } catch (error) {
      void starting.then((pool) => pool.close()).catch(() => undefined);
      throw error;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
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

  #reject(thrown: unknown, sha256?: string): void {
    const { clock, logger } = this.#options;
    const code = isAppError(thrown) ? thrown.code : ('ERR_POLICY_BUNDLE' satisfies PolicyErrorCode);
    const message = messageOf(thrown);
    const isNews = this.#rejected?.message !== message || this.#rejected.sha256 !== sha256;
    this.#rejected = { atMs: clock.nowMs(), sha256, code, message };
    const source = this.#origin.name;
    // A server gives what was refused again at every poll.
    const left =
      this.active === undefined
        ? 'no bundle decides, so that every stream is denied'
        : 'the one before stays';
    if (isNews) logger.error({ source, code, cause: message }, `policy bundle refused; ${left}`);
    for (const call of this.#rejectedListeners) call(this.#rejected);
  }
}
