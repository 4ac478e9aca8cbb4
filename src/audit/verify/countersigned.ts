import type pg from 'pg';
import { z } from 'zod';
import type { Findings } from './report.ts';
import { type BatchName, StoredDigests } from './stored-seals.ts';

const HEARTBEAT = 'audit.heartbeat';
const MARK = Buffer.from(`"type":"${HEARTBEAT}"`);

/** Heads that are kept before they are compared with the database. */
const MAX_WAITING = 2_000;

const headSchema = z.object({
  chain: z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
  batch: z.int().positive(),
  seal: z.string().regex(/^[0-9a-f]{64}$/),
});
const heartbeatSchema = z.object({
  type: z.literal(HEARTBEAT),
  data: z.object({ heads: z.array(z.unknown()) }),
});

interface Witness {
  readonly chain: string;
  readonly seq: number;
}

/** What a heartbeat said of a batch of another chain. Plain data. */
export interface Sighting {
  readonly chain: string;
  readonly batch: number;
  readonly seal: string;
  readonly by: Witness;
}

/** Heads compared with what is stored, in the order in which they were seen. Plain data. */
export interface SeenHeads {
  /** The first one of each batch whose stored seal is another. */
  readonly differing: readonly Sighting[];
  /** Of batches that are not there, the last one of each chain. */
  readonly missing: readonly Sighting[];
  /** Of batches that are there as seen, the last one of each chain. */
  readonly latest: readonly Sighting[];
}

const readHeads = (canonical: Buffer): unknown[] => {
  try {
    return heartbeatSchema.safeParse(JSON.parse(canonical.toString('utf8'))).data?.data.heads ?? [];
  } catch {
    return [];
  }
};

const nameOf = ({ chain, seq }: Witness): string => `heartbeat ${seq} of chain ${chain}`;

/** The first sighting of the last batch, by chain. */
class LastOfChains {
  readonly #last = new Map<string, Sighting>();

  take(sighting: Sighting): void {
    if (sighting.batch > (this.#last.get(sighting.chain)?.batch ?? 0))
      this.#last.set(sighting.chain, sighting);
  }

  get list(): Sighting[] {
    return [...this.#last.values()];
  }

  of(chain: string): Sighting | undefined {
    return this.#last.get(chain);
  }
}

const nameOfBatch = ({ chain, batch }: BatchName): string => `${chain} ${batch}`;

/**
 * Compares the heads of other chains that heartbeats hold with what is stored. It keeps what is wrong, and one head of each
 * chain: how many heartbeats there are makes no difference.
 */
export class Countersigned {
  readonly #waiting = new Map<string, Sighting>();
  readonly #differing = new Map<string, Sighting>();
  readonly #missing = new LastOfChains();
  readonly #latest = new LastOfChains();

  /** Takes up the heads of an event, when it is a heartbeat. */
  take(canonical: Buffer, by: Witness): void {
    if (!canonical.includes(MARK)) return;
    for (const item of readHeads(canonical)) {
      const head = headSchema.safeParse(item).data;
      if (head !== undefined) this.await({ chain: head.chain, batch: head.batch, seal: head.seal, by });
    }
  }

  /** Takes up a head that was seen before. */
  await(sighting: Sighting): void {
    const key = `${nameOfBatch(sighting)} ${sighting.seal}`;
    if (!this.#waiting.has(key)) this.#waiting.set(key, sighting);
  }

  /** So many heads were taken up that they should be compared. */
  get isFull(): boolean {
    return this.#waiting.size >= MAX_WAITING;
  }

  /** Compares those that were taken up with what is stored. */
  async compare(client: pg.ClientBase): Promise<void> {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    if (waiting.length === 0) return;
    const stored = await StoredDigests.of(client, waiting);
    for (const sighting of waiting) {
      const digest = stored.get(sighting);
      if (digest === undefined) this.#missing.take(sighting);
      else if (digest === sighting.seal) this.#latest.take(sighting);
      else this.#differs(sighting);
    }
  }

  #differs(sighting: Sighting): void {
    const name = nameOfBatch(sighting);
    if (!this.#differing.has(name)) this.#differing.set(name, sighting);
  }

  /** What was compared, to be taken up elsewhere. */
  get seen(): SeenHeads {
    return {
      differing: [...this.#differing.values()],
      missing: this.#missing.list,
      latest: this.#latest.list,
    };
  }

  /** Takes up what was compared elsewhere, with the same snapshot. */
  add({ differing, missing, latest }: SeenHeads): void {
    for (const sighting of differing) this.#differs(sighting);
    for (const sighting of missing) this.#missing.take(sighting);
    for (const sighting of latest) this.#latest.take(sighting);
  }

  /** Names what is wrong, chain by chain. */
  report(findings: Findings): void {
    const differing = new Map<string, Sighting[]>();
    for (const one of this.#differing.values()) {
      const same = differing.get(one.chain);
      if (same === undefined) differing.set(one.chain, [one]);
      else same.push(one);
    }
    const chains = new Set([...differing.keys(), ...this.#missing.list.map(({ chain }) => chain)]);
    for (const chain of chains) {
      for (const { batch, by } of differing.get(chain) ?? []) {
        const message = `${nameOf(by)} saw another seal of this batch`;
        findings.add('countersigned_head_differs', message, { chain, batch });
      }
      const missing = this.#missing.of(chain);
      if (missing === undefined) continue;
      const message = `${nameOf(missing.by)} saw this batch, which is not there`;
      findings.add('countersigned_head_missing', message, { chain, batch: missing.batch });
    }
  }
}
