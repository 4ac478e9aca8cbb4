import { join } from 'node:path';
import { foreignCodeOf, makePrivateDirectory } from '../../runtime/index.ts';
import type { FileLayer } from './file-layer.ts';
import type { PrincipalShares } from './principal-shares.ts';
import type { Recovered } from './recovery.ts';
import { segmentName } from './segment-writer.ts';

const REFUSED_DIRECTORY = 'refused';

/** Where a segment of a chain that the database refused is kept. */
export const refusedSegmentPath = (spoolDir: string, chain: string, segment: number): string =>
  join(spoolDir, REFUSED_DIRECTORY, `${chain}-${segmentName(segment)}`);

/** Knows every segment file of a spool: its size, its chain, and when it may go. */
export class SegmentShelf {
  readonly #directory: string;
  readonly #files: FileLayer;
  readonly #bytes: Map<number, number>;
  /** Of segments that nothing but live sinks needs: they count towards no quota. */
  readonly #held = new Map<number, number>();
  readonly #chains: Map<number, string>;
  /** Segments that begin within a batch: the one before them is needed to read it. */
  readonly #glued: Set<number>;
  /** Whose events fill the segments. */
  readonly shares: PrincipalShares;

  constructor(directory: string, files: FileLayer, found: Recovered) {
    this.#directory = directory;
    this.#files = files;
    this.#bytes = new Map(found.segmentBytes);
    this.#chains = new Map(found.segmentChain);
    this.#glued = new Set(found.glued);
    this.shares = found.shares;
  }

  get totalBytes(): number {
    let total = 0;
    for (const bytes of this.#bytes.values()) total += bytes;
    return total;
  }

  get heldBytes(): number {
    let total = 0;
    for (const bytes of this.#held.values()) total += bytes;
    return total;
  }

  get newest(): number | undefined {
    return this.#bytes.size === 0 ? undefined : Math.max(...this.#bytes.keys());
  }

  pathOf(segment: number): string {
    return join(this.#directory, segmentName(segment));
  }

  /** A segment was begun, within a batch or not. */
  begun(segment: number, chain: string, withinBatch: boolean): void {
    this.#chains.set(segment, chain);
    if (withinBatch) this.#glued.add(segment);
  }

  grown(segment: number, bytes: number): void {
    this.#bytes.set(segment, bytes);
  }

  /** Whether some file is there that nobody needs. */
  unneeded(needed: ReadonlySet<number>, current: number | undefined): number[] {
    const gone: number[] = [];
    let nextStays: number | undefined;
    for (const segment of [...this.#bytes.keys()].sort((a, b) => b - a)) {
      const glued = nextStays !== undefined && this.#glued.has(nextStays);
      if (segment === current || needed.has(segment) || glued) nextStays = segment;
      else {
        gone.push(segment);
        nextStays = undefined;
      }
    }
    return gone;
  }

  /** Takes segments off the books that are still there for live sinks. */
  hold(segments: readonly number[]): void {
    for (const segment of segments) {
      this.#held.set(segment, this.#bytes.get(segment) ?? 0);
      this.#bytes.delete(segment);
      this.shares.remove(segment);
    }
  }

  /** Held segments that are not wanted any more. */
  heldInVain(isWanted: (segment: number) => boolean): number[] {
    return [...this.#held.keys()].filter((segment) => !isWanted(segment));
  }

  /** The oldest held segments, until the others have at most this many bytes. */
  heldBeyond(maxBytes: number): number[] {
    let bytes = this.heldBytes;
    const gone: number[] = [];
    for (const segment of [...this.#held.keys()].sort((a, b) => a - b)) {
      if (bytes <= maxBytes) break;
      gone.push(segment);
      bytes -= this.#held.get(segment) ?? 0;
    }
    return gone;
  }

  /** Deletes segments. The head must be saved before. */
  remove(segments: readonly number[]): void {
    for (const segment of segments) {
      this.#files.unlink(this.pathOf(segment));
      this.#forget(segment);
    }
  }

  /** Moves a chain's segments out of the way; they stay evidence, but no quota counts them. */
  setAside(chain: string): number {
    makePrivateDirectory(join(this.#directory, REFUSED_DIRECTORY));
    const segments = [...this.#chains].filter(([, owner]) => owner === chain).map(([segment]) => segment);
    for (const segment of segments) {
      try {
        this.#files.rename(this.pathOf(segment), refusedSegmentPath(this.#directory, chain, segment));
      } catch (thrown) {
        if (foreignCodeOf(thrown) !== 'ENOENT') throw thrown;
      }
      this.#forget(segment);
    }
    return segments.length;
  }

  #forget(segment: number): void {
    this.#bytes.delete(segment);
    this.#held.delete(segment);
    this.#chains.delete(segment);
    this.#glued.delete(segment);
    this.shares.remove(segment);
  }
}
