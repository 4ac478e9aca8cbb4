import { join } from 'node:path';
import { foreignCodeOf } from '../../runtime/index.ts';
import type { FileLayer } from './file-layer.ts';

/**
 * A segment is closed at the first group boundary past this many bytes of events and seals, or past as many as its preamble
 * has: the open streams of many clients must not be written again for each group.
 */
export const SEGMENT_BYTES = 16 * 1024 * 1024;
const NUMBER_DIGITS = 10;
const SEGMENT_NAME = /^segment-(\d{10})\.spool$/;

/** File name of a segment. */
export const segmentName = (number: number): string =>
  `segment-${String(number).padStart(NUMBER_DIGITS, '0')}.spool`;

/** Number of a segment's file name; `undefined` for other files. */
export const segmentNumberOf = (name: string): number | undefined => {
  const digits = SEGMENT_NAME.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
};

/** Where a group was put. */
export interface Place {
  readonly segment: number;
  /** Offset of the group's first byte in the segment's file. */
  readonly at: number;
}

interface OpenSegment {
  readonly number: number;
  readonly file: number;
  /** Everything before this is on disk. */
  syncedBytes: number;
  /** The first group boundary from here on is its end. */
  readonly fullBytes: number;
}

/** Appends groups to segment files; a group is on disk when `write` returns. */
export class SegmentWriter {
  readonly #directory: string;
  readonly #files: FileLayer;
  readonly #preamble: (segment: number) => Buffer;
  readonly #segmentBytes: number;
  #nextNumber: number;
  #current: OpenSegment | undefined;
  /** Abandoned files with nothing in them that counts, and which could not be deleted yet. */
  #leftovers: string[] = [];
  /** Set when a segment was removed under us: what it held is gone, and only a restart can say so in the evidence. */
  #removed: string | undefined;

  /** `preamble` gives the first bytes of each new segment. */
  constructor(o: {
    directory: string;
    files: FileLayer;
    nextNumber: number;
    preamble: (segment: number) => Buffer;
    segmentBytes?: number | undefined;
  }) {
    this.#directory = o.directory;
    this.#files = o.files;
    this.#nextNumber = o.nextNumber;
    this.#preamble = o.preamble;
    this.#segmentBytes = o.segmentBytes ?? SEGMENT_BYTES;
  }

  /** The segment that the next group may go to, if one is open. */
  get currentNumber(): number | undefined {
    return this.#current?.number;
  }

  /** Whether a group of about this size is the segment's last. */
  fillsUp(groupBytes: number): boolean {
    const { syncedBytes, fullBytes } = this.#current ?? { syncedBytes: 0, fullBytes: this.#segmentBytes };
    return syncedBytes + groupBytes >= fullBytes;
  }

  /**
   * Puts a group on disk. A failed write or sync is final for its segment (what the page cache holds after
   * one says nothing about the disk): it is cut and left, and the group goes whole to a fresh one, once. A segment that
   * was removed from its directory is final for the writer.
   */
  write(group: Buffer): Place {
    this.#refuseWhenRemoved();
    if (this.#current !== undefined && this.#current.syncedBytes >= this.#current.fullBytes) this.close();
    try {
      return this.#append(group);
    } catch {
      this.#refuseWhenRemoved();
      this.#abandon();
      try {
        return this.#append(group);
      } catch (again) {
        this.#abandon();
        throw again;
      }
    }
  }

  /** Ends the current segment; the next group opens another. */
  close(): void {
    const segment = this.#current;
    this.#current = undefined;
    if (segment !== undefined) this.#files.close(segment.file);
  }

  #pathOf(segment: number): string {
    return join(this.#directory, segmentName(segment));
  }

  #append(group: Buffer): Place {
    const buffers = [group];
    let segment = this.#current;
    if (segment === undefined) {
      const number = this.#nextNumber;
      this.#nextNumber += 1;
      const file = this.#files.create(this.#pathOf(number));
      const preamble = this.#preamble(number);
      const fullBytes = preamble.length + Math.max(this.#segmentBytes, preamble.length);
      segment = { number, file, syncedBytes: 0, fullBytes };
      this.#current = segment;
      buffers.unshift(preamble);
      this.#files.syncDirectory(this.#directory);
    }
    const bytes = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
    this.#files.writev(segment.file, buffers, segment.syncedBytes);
    this.#files.fdatasync(segment.file);
    const path = this.#pathOf(segment.number);
    if (!this.#files.isAt(path, segment.file)) this.#removed = path;
    this.#refuseWhenRemoved();
    segment.syncedBytes += bytes;
    this.#clearLeftovers();
    return { segment: segment.number, at: segment.syncedBytes - group.length };
  }

  /** Before later segments are delivered and go: a recovery must not take a leftover for the chain's beginning. */
  #clearLeftovers(): void {
    this.#leftovers = this.#leftovers.filter((path) => {
      try {
        this.#files.unlink(path);
        return false;
      } catch (thrown) {
        return foreignCodeOf(thrown) !== 'ENOENT';
      }
    });
  }

  #refuseWhenRemoved(): void {
    if (this.#removed === undefined) return;
    throw new Error(`${this.#removed} was removed while it was written; nothing is recorded until a restart`);
  }

  #abandon(): void {
    const segment = this.#current;
    this.#current = undefined;
    if (segment === undefined) return;
    const attempt = (call: () => void): void => {
      try {
        call();
      } catch {
        // The disk is failing: recovery cuts torn records and lets a later segment win.
      }
    };
    if (segment.syncedBytes === 0) {
      this.#leftovers.push(this.#pathOf(segment.number));
      this.#clearLeftovers();
    } else attempt(() => this.#files.ftruncate(segment.file, segment.syncedBytes));
    attempt(() => this.#files.close(segment.file));
  }
}
