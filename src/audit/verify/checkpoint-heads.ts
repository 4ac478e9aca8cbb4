import type pg from 'pg';
import type { CheckpointHead } from '../checkpoint/checkpoint.ts';
import type { Findings } from './report.ts';
import { StoredDigests } from './stored-seals.ts';

/** Heads that are compared at once. */
const CHUNK = 5_000;

interface Sighting {
  readonly head: CheckpointHead;
  /** Whose word it is. */
  readonly by: string;
  /** The database had it; otherwise it may never have come there. */
  readonly wasStored: boolean;
}

/** Compares heads of checkpoints with what is stored, a chunk at a time. */
export class CheckpointHeads {
  readonly #client: pg.ClientBase;
  readonly #findings: Findings;
  #waiting: Sighting[] = [];
  /** What each chain's last sighting said: most heads come again and again. */
  readonly #latest = new Map<string, string>();
  readonly #cut = new Map<string, Sighting>();
  readonly #differing = new Set<string>();
  readonly #unstored = new Set<string>();

  constructor(client: pg.ClientBase, findings: Findings) {
    this.#client = client;
    this.#findings = findings;
  }

  /** Batches that the database need not have had, and has not. */
  get unstoredCount(): number {
    return this.#unstored.size;
  }

  async take(head: CheckpointHead, by: string, wasStored: boolean): Promise<void> {
    const kind = `${head.chain} ${String(wasStored)}`;
    const said = `${head.batch} ${head.seal}`;
    if (this.#latest.get(kind) === said) return;
    this.#latest.set(kind, said);
    this.#waiting.push({ head, by, wasStored });
    if (this.#waiting.length >= CHUNK) await this.#compare();
  }

  /** Of batches that are missing, the last one of each chain is named. */
  async finish(): Promise<void> {
    await this.#compare();
    for (const { head, by } of this.#cut.values()) {
      const message = `${by} names this batch, which is not there: the chain was cut`;
      this.#findings.add('checkpoint_head_missing', message, { chain: head.chain, batch: head.batch });
    }
  }

  async #compare(): Promise<void> {
    const sightings = this.#waiting;
    this.#waiting = [];
    if (sightings.length === 0) return;
    const stored = await StoredDigests.of(
      this.#client,
      sightings.map(({ head }) => head),
    );
    for (const sighting of sightings) {
      const { head, by, wasStored } = sighting;
      const place = `${head.chain} ${head.batch}`;
      const digest = stored.get(head);
      if (digest === undefined) {
        if (!wasStored) this.#unstored.add(place);
        else if (head.batch > (this.#cut.get(head.chain)?.head.batch ?? 0))
          this.#cut.set(head.chain, sighting);
      } else if (digest !== head.seal && !this.#differing.has(place)) {
        this.#differing.add(place);
        this.#findings.add('checkpoint_head_differs', `${by} names another seal for this batch`, {
          chain: head.chain,
          batch: head.batch,
        });
      }
    }
  }
}
