import type { Batch } from './chain-state.ts';
import type { HeadPosition } from './head-file.ts';

/** Batches in sealing order with one cursor per sink: what a sink has not yet is still needed. */
export class BatchQueue {
  readonly #batches: Batch[];
  readonly #delivers: boolean;
  readonly #exports: boolean;
  /** How many from the front the database, or the JSONL files, have. */
  #acknowledged = 0;
  #exported = 0;

  constructor(batches: readonly Batch[], sinks: { delivers: boolean; exports: boolean }) {
    this.#batches = [...batches];
    this.#delivers = sinks.delivers;
    this.#exports = sinks.exports;
  }

  push(batch: Batch): void {
    this.#batches.push(batch);
  }

  /** The first batches that the database has not acknowledged, oldest first. */
  unacknowledged(limit: number): readonly Batch[] {
    return this.#batches.slice(this.#acknowledged, this.#acknowledged + limit);
  }

  get unacknowledgedCount(): number {
    return this.#batches.length - this.#acknowledged;
  }

  get unexportedCount(): number {
    return this.#exports ? this.#batches.length - this.#exported : 0;
  }

  /** The next batch for the JSONL files. */
  nextToExport(): Batch | undefined {
    return this.#exports ? this.#batches[this.#exported] : undefined;
  }

  /** The oldest batch that the database has not. */
  oldest(): Batch | undefined {
    return this.#batches[this.#acknowledged];
  }

  /** Everything up to this position is with the database. */
  acknowledge(position: HeadPosition): Batch | undefined {
    const at = this.#indexOf(position);
    if (at >= this.#acknowledged) this.#acknowledged = at + 1;
    return this.#batches[at];
  }

  /** Everything up to this position is in the JSONL files. */
  exportedTo(position: HeadPosition): void {
    const at = this.#indexOf(position);
    if (at >= this.#exported) this.#exported = at + 1;
  }

  /** Takes out the batches of a chain that the database will not have. */
  removeChain(chain: string): Batch[] {
    const removed = this.#batches.filter((batch) => batch.signed.seal.chain === chain);
    const before = (count: number): number =>
      this.#batches.slice(0, count).filter((batch) => batch.signed.seal.chain !== chain).length;
    this.#acknowledged = before(this.#acknowledged);
    this.#exported = before(this.#exported);
    const kept = this.#batches.filter((batch) => batch.signed.seal.chain !== chain);
    this.#batches.splice(0, this.#batches.length, ...kept);
    return removed;
  }

  /** Drops what every sink has; with no sink at all, nothing is ever done. Returns how many were dropped. */
  trim(): number {
    const cursors = [
      ...(this.#delivers ? [this.#acknowledged] : []),
      ...(this.#exports ? [this.#exported] : []),
    ];
    const done = cursors.length === 0 ? 0 : Math.min(...cursors);
    if (done === 0) return 0;
    this.#batches.splice(0, done);
    this.#acknowledged = Math.max(0, this.#acknowledged - done);
    this.#exported = Math.max(0, this.#exported - done);
    return done;
  }

  /** Segments that some batch still needs. */
  segments(): Set<number> {
    const needed = new Set<number>();
    for (const batch of this.#batches) {
      needed.add(batch.sealSegment);
      for (const span of batch.spans) needed.add(span.segment);
    }
    return needed;
  }

  #indexOf(position: HeadPosition): number {
    // Positions move forward a little at a time, so the search starts at the slower cursor's front.
    return this.#batches.findIndex(
      (batch) => batch.signed.seal.chain === position.chain && batch.signed.seal.batch === position.batch,
    );
  }
}
