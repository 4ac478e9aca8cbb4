import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { foreignCodeOf } from '../../runtime/index.ts';
import { addSpan, type Span } from '../spool/chain-state.ts';
import { readEventPayload, readRecords, RECORD } from '../spool/record.ts';
import { refusedSegmentPath } from '../spool/segment-shelf.ts';
import { segmentName } from '../spool/segment-writer.ts';
import type { SealedRun } from './messages.ts';
import type { SinkPosition } from './position-file.ts';

/** More than the record of the largest event (docs/audit-format.md). */
const READ_BYTES = 1024 * 1024;

/** A sealed event on its way to a receiver. */
export interface SinkEvent extends SinkPosition {
  readonly canonical: Buffer;
  /** Where its record ends. */
  readonly segment: number;
  readonly to: number;
}

/** Runs of one chain that touch each other within one segment; a run over several segments stands alone. */
interface Stretch {
  readonly chain: string;
  first: number;
  last: number;
  readonly spans: Span[];
}

const bytesOf = (spans: readonly Span[]): number => spans.reduce((sum, { from, to }) => sum + to - from, 0);

/**
 * What the spool has and one sink has not, oldest first. It is read from the segments themselves, so that it takes
 * memory by the segment and not by the event.
 */
export class Backlog {
  readonly #directory: string;
  readonly #stretches: Stretch[] = [];
  #started: SinkPosition | undefined;
  #newestSegment = 0;
  /** Next to read: stretch, span in it, offset in the segment. */
  #stretch = 0;
  #span = 0;
  #at = 0;
  /** Last event read of that stretch; 0 before the first. */
  #readSeq = 0;
  #lost = 0;

  constructor(spoolDir: string, position: SinkPosition | undefined) {
    this.#directory = spoolDir;
    this.#started = position;
  }

  get events(): number {
    return this.#stretches.reduce((sum, { first, last }) => sum + last - first + 1, 0);
  }

  get bytes(): number {
    return this.#stretches.reduce((sum, { spans }) => sum + bytesOf(spans), 0);
  }

  /** Whether `read` would find something. */
  get hasUnread(): boolean {
    const stretch = this.#stretches[this.#stretch];
    if (stretch === undefined) return false;
    if (this.#stretch < this.#stretches.length - 1 || this.#span < stretch.spans.length - 1) return true;
    return this.#at < (stretch.spans[this.#span]?.to ?? 0);
  }

  /** Events that went before they were read, since the last call. */
  takeLost(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }

  /** No segment before this one is needed. */
  get wantedFrom(): number {
    return this.#stretches[0]?.spans[0]?.segment ?? this.#newestSegment;
  }

  /** Takes up what was sealed; of the first call, what the sink had at its last position is left out. */
  add(runs: readonly SealedRun[]): void {
    let from = 0;
    const position = this.#started;
    if (position !== undefined) {
      const mine = runs.findLastIndex(({ chain }) => chain === position.chain);
      const behind = runs.findIndex(({ chain, last }) => chain === position.chain && last > position.seq);
      if (mine >= 0) from = behind >= 0 ? behind : mine + 1;
      if (behind >= 0) this.#lost += Math.max(0, (runs[behind]?.first ?? 0) - position.seq - 1);
    }
    for (const run of runs.slice(from)) this.#append(run, position);
    for (const { spans } of runs) this.#newestSegment = spans.at(-1)?.segment ?? this.#newestSegment;
    if (runs.length > 0) this.#started = undefined;
  }

  /** The spool gave these segments up. */
  release(segment: number): void {
    const stays = this.#stretches.findIndex(({ spans }) => spans.every((span) => span.segment > segment));
    const gone = this.#stretches.slice(0, stays < 0 ? undefined : stays);
    for (const { first, last } of gone) this.#lost += last - first + 1;
    this.#removeFront(gone.length);
  }

  /** Begins again behind what was confirmed. */
  rewind(): void {
    this.#next(0, 0);
    this.#readSeq = 0;
  }

  /**
   * The next events, about this many bytes and at least one where there is one. What is no longer in the spool is
   * passed over and counted as lost.
   * @throws what the disk throws.
   */
  read(maxBytes: number): SinkEvent[] {
    const events: SinkEvent[] = [];
    let bytes = 0;
    while (bytes < maxBytes) {
      const stretch = this.#stretches[this.#stretch];
      const span = stretch?.spans[this.#span];
      if (stretch === undefined) break;
      if (span === undefined || this.#at >= span.to) {
        if (this.#span < stretch.spans.length - 1) this.#next(this.#stretch, this.#span + 1);
        else if (this.#stretch < this.#stretches.length - 1) {
          this.#next(this.#stretch + 1, 0);
          this.#readSeq = 0;
        } else break;
        continue;
      }
      bytes += this.#readSome(stretch, span, maxBytes - bytes, events);
    }
    return events;
  }

  /** The sink has everything up to this event. Returns how many events that were. */
  confirm({ chain, seq, segment, to }: SinkEvent): number {
    const index = this.#stretches.findIndex(
      (stretch) => stretch.chain === chain && stretch.first <= seq && seq <= stretch.last,
    );
    const stretch = this.#stretches[index];
    if (stretch === undefined) return 0;
    let count = seq - stretch.first + 1;
    for (const before of this.#stretches.slice(0, index)) count += before.last - before.first + 1;
    if (seq === stretch.last) {
      this.#removeFront(index + 1);
      return count;
    }
    this.#removeFront(index);
    const at = stretch.spans.findIndex((span) => span.segment === segment);
    if (at > 0) stretch.spans.splice(0, at);
    if (this.#stretch === 0) this.#span = Math.max(0, this.#span - Math.max(0, at));
    const [span] = stretch.spans;
    if (span !== undefined) stretch.spans[0] = { ...span, from: to };
    stretch.first = seq + 1;
    return count;
  }

  #append({ chain, first, last, spans }: SealedRun, position: SinkPosition | undefined): void {
    if (first > last) return;
    const newest = this.#stretches.at(-1);
    const [span] = spans;
    const touches = newest?.chain === chain && newest.last + 1 === first;
    if (touches && spans.length === 1 && newest.spans.at(-1)?.segment === span?.segment) {
      // Between the two stands a seal, which a reader passes over.
      const joined = { ...(newest.spans.pop() as Span), to: span?.to ?? 0 };
      addSpan(newest.spans, joined);
      newest.last = last;
      return;
    }
    const has = position?.chain === chain ? position.seq : 0;
    this.#stretches.push({ chain, first: Math.max(first, has + 1), last, spans: [...spans] });
  }

  #next(stretch: number, span: number): void {
    this.#stretch = stretch;
    this.#span = span;
    this.#at = 0;
  }

  #removeFront(count: number): void {
    if (count === 0) return;
    this.#stretches.splice(0, count);
    if (this.#stretch < count) this.rewind();
    else this.#stretch -= count;
  }

  /** Returns the canonical bytes of what it put into `events`. */
  #readSome(stretch: Stretch, span: Span, maxBytes: number, events: SinkEvent[]): number {
    const at = Math.max(this.#at, span.from);
    const bytes = this.#bytesOf(stretch.chain, span.segment, at, Math.min(READ_BYTES, span.to - at));
    let taken = 0;
    let consumed = 0;
    for (const found of readRecords(bytes ?? Buffer.alloc(0))) {
      consumed = found.to;
      if (found.kind !== RECORD.event) continue;
      const { seq, canonical } = readEventPayload(found.payload);
      if (seq < stretch.first || seq > stretch.last) continue;
      events.push({ chain: stretch.chain, seq, canonical, segment: span.segment, to: at + found.to });
      this.#readSeq = seq;
      taken += canonical.length;
      if (taken >= maxBytes) break;
    }
    if (consumed === 0) this.#lose(stretch);
    else this.#at = at + consumed;
    return taken;
  }

  /** The rest of the stretch that is being read is not in the spool any more. */
  #lose(stretch: Stretch): void {
    const kept = Math.max(this.#readSeq, stretch.first - 1);
    this.#lost += stretch.last - kept;
    if (kept >= stretch.first) {
      stretch.last = kept;
      this.#next(this.#stretch + 1, 0);
    } else {
      this.#stretches.splice(this.#stretch, 1);
      this.#next(this.#stretch, 0);
    }
    this.#readSeq = 0;
  }

  #bytesOf(chain: string, segment: number, from: number, length: number): Buffer | undefined {
    const name = segmentName(segment);
    for (const path of [join(this.#directory, name), refusedSegmentPath(this.#directory, chain, segment)]) {
      let file: number;
      try {
        file = openSync(path, 'r');
      } catch (thrown) {
        if (foreignCodeOf(thrown) === 'ENOENT') continue;
        throw thrown;
      }
      try {
        const bytes = Buffer.alloc(length);
        return bytes.subarray(0, readSync(file, bytes, 0, length, from));
      } finally {
        closeSync(file);
      }
    }
    return undefined;
  }
}
