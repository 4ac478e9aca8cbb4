import { join } from 'node:path';
import type { FileLayer } from './file-layer.ts';

/** A segment is closed at the first group boundary past this. */
const SEGMENT_BYTES = 16 * 1024 * 1024;
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
}

/** Appends groups to segment files; a group is on disk when `write` returns. */
export class SegmentWriter {
  readonly #directory: string;
  readonly #files: FileLayer;
  readonly #preamble: (segment: number) => Buffer;
  readonly #segmentBytes: number;
  #nextNumber: number;
  #current: OpenSegment | undefined;
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

  /** Bytes of that segment that are on disk. */
  get currentBytes(): number {
    return this.#current?.syncedBytes ?? 0;
  }

  /** Whether a group of about this size is the segment's last. */
  fillsUp(groupBytes: number): boolean {
    return this.currentBytes + groupBytes >= this.#segmentBytes;
  }

  /**
   * Puts a group on disk. A failed write or sync is final for its segment (what the page cache holds after
   * one says nothing about the disk): it is cut and left, and the group goes whole to a fresh one, once. A segment that
   * was removed from its directory is final for the writer.
   */
  write(group: Buffer): Place {
    this.#refuseWhenRemoved();
    if (this.#current !== undefined && this.#current.syncedBytes >= this.#segmentBytes) this.close();
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
      segment = { number, file: this.#files.create(this.#pathOf(number)), syncedBytes: 0 };
      this.#current = segment;
      buffers.unshift(this.#preamble(number));
      this.#files.syncDirectory(this.#directory);
    }
    const bytes = buffers.reduce((sum, buffer) => sum + buffer.length, 0);
    this.#files.writev(segment.file, buffers, segment.syncedBytes);
    this.#files.fdatasync(segment.file);
    const path = this.#pathOf(segment.number);
    if (!this.#files.isAt(path, segment.file)) this.#removed = path;
    this.#refuseWhenRemoved();
    segment.syncedBytes += bytes;
    return { segment: segment.number, at: segment.syncedBytes - group.length };
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
    if (segment.syncedBytes === 0) attempt(() => this.#files.unlink(this.#pathOf(segment.number)));
    else attempt(() => this.#files.ftruncate(segment.file, segment.syncedBytes));
    attempt(() => this.#files.close(segment.file));
  }
}
