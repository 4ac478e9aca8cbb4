import type { SpoolToSinks } from '../sink/messages.ts';
import type { Batch } from './chain-state.ts';

/**
 * What the spool does for live sinks: tells them what is sealed, and keeps segments that only they still need, up to a
 * number of bytes. They never keep anything from the database, nor from what is to be recorded.
 */
export class SinkHolds {
  readonly maxBytes: number;
  readonly #tell: (message: SpoolToSinks) => void;
  #wantedFrom = 0;

  constructor(maxBytes: number, tell: (message: SpoolToSinks) => void) {
    this.maxBytes = maxBytes;
    this.#tell = tell;
  }

  /** No sink needs a segment before this one. */
  set wantedFrom(segment: number) {
    this.#wantedFrom = Math.max(this.#wantedFrom, segment);
  }

  isWanted(segment: number): boolean {
    return segment >= this.#wantedFrom;
  }

  sealed(batches: readonly Pick<Batch, 'signed' | 'spans'>[]): void {
    const runs = batches
      .filter(({ signed }) => signed.seal.n > 0)
      .map(({ signed: { seal }, spans }) => ({
        chain: seal.chain,
        first: seal.first,
        last: seal.last,
        spans,
      }));
    if (runs.length > 0) this.#tell({ kind: 'sealed', runs });
  }

  /** These segments are gone although a sink may have wanted them. */
  gaveUp(segments: readonly number[]): void {
    if (segments.length > 0) this.#tell({ kind: 'released', segment: Math.max(...segments) });
  }

  /** Everything that this process seals has been told. */
  final(): void {
    this.#tell({ kind: 'final' });
  }
}
