import { join } from 'node:path';
import { type Clock, type Logger, messageOf, sleep, type Timer, uuidv7 } from '../../runtime/index.ts';
import { readAuditKey } from '../seal/audit-key.ts';
import type { SpoolState } from '../spool/messages.ts';
import type { CheckpointHead } from './checkpoint.ts';
import { readCheckpointHeads, type SeenHeads } from './checkpoint-store.ts';
import { type CheckpointHealth, Desk } from './desk.ts';
import { FilePlace } from './file-place.ts';
import type { Place } from './place.ts';
import { type CheckpointFacts, Series } from './series.ts';
import type { CheckpointPlaces } from './settings.ts';
import { UrlPlace } from './url-place.ts';

/** The first one comes this soon after the start: what was sealed since the last one of the process before is then covered. */
const FIRST_MS = 10_000;

export interface CheckpointerOptions {
  readonly places: CheckpointPlaces;
  readonly spoolDir: string;
  readonly keyFile: string;
  readonly databaseUrl: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How the writer's own spool stands now. */
  spool(): SpoolState | undefined;
}

/** The head of a spool and what the database acknowledged of it, as heads. */
const ownHeads = (
  state: SpoolState | undefined,
): { readonly own: CheckpointHead | null; readonly acknowledged: CheckpointHead | undefined } => {
  if (state === undefined) return { own: null, acknowledged: undefined };
  const { chain, lastBatch: batch, lastSeal: seal, acknowledged } = state;
  const had = acknowledged !== null && acknowledged.batch > 0 ? acknowledged : undefined;
  return {
    own: seal === null || batch === 0 ? null : { chain, batch, seal },
    acknowledged:
      had?.seal === undefined ? undefined : { chain: had.chain, batch: had.batch, seal: had.seal },
  };
};

/** By chain, in order; of its own chain the writer believes its own disk. */
const mergedHeads = (seen: SeenHeads | undefined, own: CheckpointHead | undefined): CheckpointHead[] => {
  const heads = new Map((seen?.heads ?? []).map((head) => [head.chain, head]));
  if (own !== undefined) heads.set(own.chain, own);
  return [...heads.values()].sort((a, b) => (a.chain < b.chain ? -1 : 1));
};

/**
 * Signs at intervals what the writer sees of all chains, for places that the database cannot reach. Beside the way of
 * events and decisions: nothing waits for it, and what fails is tried again at the next interval.
 */
export class Checkpointer {
  readonly #o: CheckpointerOptions;
  readonly #desks: readonly Desk[];
  readonly #stop = new AbortController();
  #first: Timer | undefined;
  #timer: Timer | undefined;
  #rounds = new Set<Promise<void>>();
  #warned: string | undefined;

  private constructor(options: CheckpointerOptions, desks: readonly Desk[]) {
    this.#o = options;
    this.#desks = desks;
  }

  /** @throws AppError ERR_AUDIT_KEY_INVALID */
  static async start(options: CheckpointerOptions): Promise<Checkpointer> {
    const { places, keyFile, spoolDir, clock, databaseUrl, logger } = options;
    const key = readAuditKey(keyFile);
    const given: Place[] = [
      ...(places.file === undefined ? [] : [new FilePlace(places.file)]),
      ...(places.service === undefined ? [] : [new UrlPlace(places.service, clock)]),
    ];
    const desks = await Promise.all(
      given.map(async (place) => {
        const series = await Series.open(join(spoolDir, `checkpoint-${place.name}.json`), key);
        return new Desk({ place, series, databaseUrl, clock, logger });
      }),
    );
    const mine = new Checkpointer(options, desks);
    mine.#begin();
    return mine;
  }

  health(): CheckpointHealth[] {
    return this.#desks.map((desk) => desk.health());
  }

  /** Makes a last one, over what the chain ends with, and gives up after `limitMs`. */
  async stop(limitMs: number): Promise<void> {
    this.#first?.cancel();
    this.#timer?.cancel();
    const limit = new AbortController();
    const last = Promise.all(this.#rounds).then(() => this.#make());
    const late = sleep(this.#o.clock, limitMs, limit.signal).catch(() => undefined);
    await Promise.race([last, late]);
    limit.abort();
    this.#stop.abort(new Error('the process ends'));
  }

  #begin(): void {
    const { clock, places } = this.#o;
    const round = (): void => {
      const making = this.#make().finally(() => this.#rounds.delete(making));
      this.#rounds.add(making);
    };
    this.#first = clock.after(Math.min(FIRST_MS, places.everyMs), round).unref();
    this.#timer = clock.every(places.everyMs, round).unref();
  }

  async #make(): Promise<void> {
    const seen = await this.#look();
    // After the database was asked: what it named was then stored, and what is acknowledged now was too.
    const { own, acknowledged } = ownHeads(this.#o.spool());
    const facts = (): CheckpointFacts => ({
      id: uuidv7(this.#o.clock),
      time: new Date(this.#o.clock.nowMs()).toISOString(),
      own,
      heads: mergedHeads(seen, acknowledged),
      omitted: seen?.omitted ?? null,
    });
    await Promise.all(this.#desks.map((desk) => desk.make(facts(), this.#stop.signal)));
  }

  /** Heads that the database has; undefined when it cannot be asked. */
  async #look(): Promise<SeenHeads | undefined> {
    const { databaseUrl, logger } = this.#o;
    if (databaseUrl === undefined) return undefined;
    try {
      const seen = await readCheckpointHeads(databaseUrl);
      this.#warned = undefined;
      return seen;
    } catch (thrown) {
      const error = messageOf(thrown);
      if (error !== this.#warned) logger.warn({ error }, 'checkpoints hold only the head of this process');
      this.#warned = error;
      return undefined;
    }
  }
}
