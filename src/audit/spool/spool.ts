import { type Clock, makePrivateDirectory, messageOf, uuidv7 } from '../../runtime/index.ts';
import type { OutageMode } from '../audit-log.ts';
import { auditError } from '../errors.ts';
import type { AuditKey } from '../seal/audit-key.ts';
import { admit, type AdmissionState, DEFAULT_SHARE_FROM_PERCENT, isContended } from './admission.ts';
import { BatchQueue } from './batch-queue.ts';
import {
  addSpan,
  type Batch,
  type ChainState,
  newChain,
  type OpenStream,
  openStreamOf,
} from './chain-state.ts';
import type { FileLayer } from './file-layer.ts';
import { buildGroup, type Group } from './group.ts';
import { type HeadPosition, readHead, writeHead } from './head-file.ts';
import {
  type LostStream,
  OUTCOME,
  type OutgoingBatches,
  type PreviousChain,
  type SpoolItem,
  type SpoolState,
} from './messages.ts';
import type { PrincipalShares } from './principal-shares.ts';
import { readEventPayload, readRecords, RECORD } from './record.ts';
import { recoverSpool } from './recovery.ts';
import { newestChain, segmentPreamble } from './segment-preamble.ts';
import { SegmentShelf } from './segment-shelf.ts';
import type { SinkHolds } from './sink-holds.ts';
import { type Place, SEGMENT_BYTES, SegmentWriter } from './segment-writer.ts';

/** The head file follows acknowledgements at most this often; deleting a segment saves it in any case. */
const HEAD_SAVE_MS = 1_000;
/** Most batches of one pull. */
const MAX_PULL_BATCHES = 256;

const PERCENT = 100;
/** A segment goes as a whole, so that a quota must hold several: one that is written never goes. */
const MIN_SEGMENTS = 8;

export interface SpoolOptions {
  readonly directory: string;
  readonly key: AuditKey;
  readonly files: FileLayer;
  readonly clock: Clock;
  readonly maxSpoolBytes: number;
  /** Of the quota; from here on a principal is held to its share (default 75). 100: never. */
  readonly shareFromPercent?: number | undefined;
  readonly mode: OutageMode;
  /** Whether a database takes batches, and whether JSONL files do. */
  readonly sinks: { delivers: boolean; exports: boolean };
  /** What is done for live sinks, where there are some. */
  readonly holds?: SinkHolds | undefined;
  readonly segmentBytes?: number;
  readonly sealEvents?: number;
}

/** A spool directory with the chain that is being written. Everything is synchronous. */
export class Spool {
  readonly #o: SpoolOptions;
  readonly #writer: SegmentWriter;
  readonly #queue: BatchQueue;
  readonly #shelf: SegmentShelf;
  readonly #openStreams: Map<string, OpenStream>;
  readonly previous: PreviousChain | undefined;
  readonly broken: string | undefined;
  #state: ChainState;
  #dropped = 0;
  #headDueMs = 0;
  #failed: string | undefined;
  #acknowledged: HeadPosition | null = null;
  #exported: HeadPosition | null = null;

  /**
   * Recovers the directory, seals an old chain's tail as its final batch and stands ready with a new chain.
   * @throws what the disk throws.
   */
  constructor(options: SpoolOptions) {
    this.#o = options;
    makePrivateDirectory(options.directory);
    const found = recoverSpool(options.directory, options.files);
    const head = readHead(options.directory);
    this.broken = found.broken;
    this.#shelf = new SegmentShelf(options.directory, options.files, found);
    this.#openStreams = found.openStreams;
    this.#queue = new BatchQueue(found.batches, options.sinks);
    options.holds?.sealed(found.batches);
    if (head?.acknowledged) this.#acknowledgeTo(head.acknowledged);
    if (head?.exported) this.exportedTo(head.exported);
    this.#writer = new SegmentWriter({
      directory: options.directory,
      files: options.files,
      nextNumber: found.nextSegment,
      preamble: (segment) => this.#preamble(segment),
      segmentBytes: options.segmentBytes ?? Math.min(SEGMENT_BYTES, options.maxSpoolBytes / MIN_SEGMENTS),
    });
    const old = newestChain(found.last, head);
    this.#state = old ?? this.#nextChain(undefined, head?.epoch ?? 0);
    const used = old !== undefined && (old.lastSeq > 0 || old.lastBatch > 0);
    if (old !== undefined) {
      if (used && !old.final && this.broken === undefined) {
        this.#commit(this.#group([], { sealTail: true, final: true }), []);
      }
      this.#writer.close();
      this.#state = this.#nextChain(used ? old : undefined, old.epoch, old);
    }
    this.previous =
      this.#state.prevChain === null
        ? undefined
        : { chain: this.#state.prevChain, batch: used ? old.lastBatch : 0 };
    this.tidy();
  }

  get chain(): string {
    return this.#state.chain;
  }

  /** Chain of the batch that is delivered next. */
  get oldestChain(): string | undefined {
    return this.#queue.oldest()?.signed.seal.chain;
  }

  /** Whether events wait for a seal, or dropped ones for the seal that counts them. */
  get unsealed(): boolean {
    return this.#state.leaves.length > 0;
  }

  /** Allowed streams whose end was never recorded, as the directory was found. */
  lostStreams(): LostStream[] {
    return [...this.#openStreams.values()].map((stream) => ({
      stream_id: stream.streamId,
      decision_id: stream.decisionId,
      subject: stream.subject.toString('utf8'),
    }));
  }

  /**
   * Puts events on disk: one write, one sync. Sequence numbers per item, 0 for what was dropped or refused.
   * @throws what the disk throws; then none of them is in the chain.
   */
  append(items: readonly SpoolItem[]): { seqs: number[]; outcomes: number[]; dropped: number } {
    const outcomes = admit(items, this.#admission());
    const kept = items.filter((_, index) => outcomes[index] === OUTCOME.kept);
    const dropped = outcomes.filter((outcome) => outcome === OUTCOME.dropped).length;
    let seq = this.#state.lastSeq;
    if (kept.length > 0) {
      const texts = kept.map((item) => item.text);
      this.#commit(this.#group(texts, { sealTail: this.#fillsUp(texts), final: false }), kept);
    }
    this.#dropped += dropped;
    const seqs = outcomes.map((outcome) => (outcome === OUTCOME.kept ? (seq += 1) : 0));
    return { seqs, outcomes, dropped };
  }

  /** Seals what no seal covers yet; `final` ends the chain, even with nothing left. */
  seal(final: boolean): void {
    if (!final && this.#state.leaves.length === 0) return;
    if (this.#state.final) return;
    this.#commit(this.#group([], { sealTail: true, final }), []);
  }

  /** The next batches for the database, read back from the segments; `undefined` when it has all. */
  pull(maxBytes: number): OutgoingBatches | undefined {
    const chosen: Batch[] = [];
    let bytes = 0;
    for (const batch of this.#queue.unacknowledged(MAX_PULL_BATCHES)) {
      if (chosen.length > 0 && bytes + batch.eventBytes > maxBytes) break;
      chosen.push(batch);
      bytes += batch.eventBytes;
    }
    if (chosen.length === 0) return undefined;
    const lengths: number[] = [];
    const parts: Buffer[] = [];
    for (const batch of chosen) {
      let events: Buffer[];
      try {
        events = this.eventsOf(batch);
      } catch (thrown) {
        if (batch === chosen[0]) throw thrown;
        chosen.length = chosen.indexOf(batch);
        break;
      }
      for (const canonical of events) {
        lengths.push(canonical.length);
        parts.push(canonical);
      }
    }
    return {
      batches: chosen.map(({ signed }) => ({
        chain: signed.seal.chain,
        batch: signed.seal.batch,
        seal: signed.text,
        signature: signed.signature,
        digest: signed.digest.toString('hex'),
        n: signed.seal.n,
      })),
      events: Buffer.concat(parts),
      lengths,
    };
  }

  /** Canonical bytes of a batch's events, in order. @throws AppError ERR_AUDIT_SPOOL_OPEN when the disk lost some. */
  eventsOf(batch: Batch): Buffer[] {
    const events: Buffer[] = [];
    for (const span of batch.spans) {
      const bytes = this.#o.files.read(this.#shelf.pathOf(span.segment), span.from, span.to - span.from);
      for (const found of readRecords(bytes)) {
        if (found.kind === RECORD.event) events.push(readEventPayload(found.payload).canonical);
      }
    }
    const { seal } = batch.signed;
    if (events.length !== seal.n) {
      throw auditError(
        'ERR_AUDIT_SPOOL_OPEN',
        `spool lost events: batch ${seal.batch} of chain ${seal.chain} has ${events.length} of ${seal.n}`,
      );
    }
    return events;
  }

  nextToExport(): Batch | undefined {
    return this.#queue.nextToExport();
  }

  /** The JSONL files have everything up to here. */
  exportedTo(position: HeadPosition): void {
    this.#queue.exportedTo(position);
    this.#exported = position;
  }

  /** The database has everything up to here: segments that nobody needs go. */
  acknowledge(position: HeadPosition): void {
    this.#acknowledgeTo(position);
    this.tidy();
  }

  /**
   * The database refuses a chain: its segments are set aside, and when it is the current one, it is ended
   * and another continues it.
   */
  refuse(chain: string): PreviousChain {
    const current = this.#state.chain === chain;
    if (current) this.seal(true);
    const batch = current ? this.#state.lastBatch : 0;
    const removed = this.#queue.removeChain(chain);
    if (current) {
      this.#writer.close();
      this.#state = this.#nextChain(this.#state, this.#state.epoch);
    }
    this.#saveHead();
    this.#shelf.setAside(chain);
    return { chain, batch: batch || (removed.at(-1)?.signed.seal.batch ?? 0) };
  }

  /** After a failure: whether the disk takes records again. */
  probe(): boolean {
    if (this.#failed === undefined) return true;
    try {
      this.#writer.write(Buffer.alloc(0));
      this.#failed = undefined;
      return true;
    } catch (thrown) {
      this.#failed = messageOf(thrown);
      return false;
    }
  }

  state(): SpoolState {
    const { seal } = this.#queue.oldest()?.signed ?? {};
    const admission = this.#admission();
    return {
      chain: this.#state.chain,
      lastSeq: this.#state.lastSeq,
      lastBatch: this.#state.lastBatch,
      lastSeal: this.#state.lastSeal?.toString('hex') ?? null,
      acknowledged: this.#acknowledged,
      spoolBytes: admission.spoolBytes,
      overShare: isContended(admission) ? this.#shelf.shares.over(this.#o.maxSpoolBytes) : [],
      unsealed: this.#state.leaves.length,
      unacknowledged: this.#o.sinks.delivers ? this.#queue.unacknowledgedCount : 0,
      oldestSealedAt: this.#o.sinks.delivers ? seal?.time : undefined,
      unexported: this.#queue.unexportedCount,
      heldBytes: this.#shelf.heldBytes,
      failed: this.#failed,
    };
  }

  /** Live sinks lose the oldest of what is kept for them alone, beyond their limit or when the spool needs the room. */
  giveUpHeld(): void {
    const { holds, maxSpoolBytes } = this.#o;
    if (holds === undefined || this.#shelf.heldBytes === 0) return;
    const room = Math.max(0, maxSpoolBytes - this.#shelf.totalBytes);
    this.#release(this.#shelf.heldBeyond(Math.min(holds.maxBytes, room)));
  }

  /** Saves the head and closes the segment. */
  close(): void {
    this.#saveHead();
    this.#writer.close();
    this.tidy();
  }

  #admission(): AdmissionState & { readonly shares: PrincipalShares } {
    const { mode, maxSpoolBytes, shareFromPercent = DEFAULT_SHARE_FROM_PERCENT } = this.#o;
    return {
      mode,
      maxSpoolBytes,
      shareFromBytes: (maxSpoolBytes * shareFromPercent) / PERCENT,
      spoolBytes: this.#shelf.totalBytes,
      shares: this.#shelf.shares,
    };
  }

  #nextChain(after: ChainState | undefined, epoch: number, unused?: ChainState): ChainState {
    return newChain({
      chain: uuidv7(this.#o.clock),
      epoch: epoch + 1,
      prevChain: after === undefined ? (unused?.prevChain ?? null) : after.chain,
      prevChainSeal: after === undefined ? (unused?.prevChainSeal ?? null) : after.lastSeal,
    });
  }

  #group(texts: readonly string[], o: { sealTail: boolean; final: boolean }): Group {
    return buildGroup({
      state: this.#state,
      key: this.#o.key,
      texts,
      dropped: this.#dropped,
      nowMs: this.#o.clock.nowMs(),
      sealEvents: this.#o.sealEvents,
      ...o,
    });
  }

  /** Writes a group and, when it is on disk, makes it true. */
  #commit(group: Group, items: readonly SpoolItem[]): void {
    const state = this.#state;
    let place: Place;
    try {
      place = this.#write(group.bytes);
    } catch (thrown) {
      this.#failed = messageOf(thrown);
      throw thrown;
    }
    this.#failed = undefined;
    this.#shelf.grown(place.segment, place.at + group.bytes.length);
    for (const sealed of group.sealed) {
      addSpan(state.spans, {
        segment: place.segment,
        from: place.at + sealed.from,
        to: place.at + sealed.to,
      });
      const { signed, eventBytes } = sealed;
      const batch = { signed, eventBytes, spans: state.spans, sealSegment: place.segment };
      this.#queue.push(batch);
      this.#o.holds?.sealed([batch]);
      state.spans = [];
      state.lastBatch = signed.seal.batch;
      state.sealedSeq = signed.seal.last;
      state.lastSeal = signed.digest;
      state.final = signed.seal.final;
    }
    addSpan(state.spans, {
      segment: place.segment,
      from: place.at + group.tailFrom,
      to: place.at + group.tailTo,
    });
    state.lastSeq = group.lastSeq;
    state.leaves = group.leaves;
    state.leafBytes = group.leafBytes;
    this.#dropped = group.dropped;
    for (const item of items) {
      if (item.principal !== undefined)
        this.#shelf.shares.add(place.segment, item.principal, Buffer.byteLength(item.text));
      if (item.opens !== undefined) this.#openStreams.set(item.opens, openStreamOf(item.opens, item.text));
      if (item.closes !== undefined) this.#openStreams.delete(item.closes);
    }
  }

  /** A disk that takes no more may take it without what is kept for live sinks. */
  #write(bytes: Buffer): Place {
    try {
      return this.#writer.write(bytes);
    } catch (thrown) {
      if (this.#shelf.heldBytes === 0) throw thrown;
      this.#release(this.#shelf.heldBeyond(0));
      return this.#writer.write(bytes);
    }
  }

  #release(segments: readonly number[]): void {
    this.#shelf.remove(segments);
    this.#o.holds?.gaveUp(segments);
  }

  #preamble(segment: number): Buffer {
    this.#shelf.begun(segment, this.#state.chain, this.#state.leaves.length > 0);
    return segmentPreamble(segment, this.#state, [...this.#openStreams.values()]);
  }

  /** A segment ends under a seal, so that it can go when that batch is with the sinks. */
  #fillsUp(texts: readonly string[]): boolean {
    return this.#writer.fillsUp(texts.reduce((sum, text) => sum + text.length, 0));
  }

  #acknowledgeTo(position: HeadPosition): void {
    const seal = this.#queue.acknowledge(position)?.signed.digest.toString('hex') ?? position.seal;
    this.#acknowledged = {
      chain: position.chain,
      batch: position.batch,
      ...(seal === undefined ? {} : { seal }),
    };
  }

  /** Deletes segments that every sink has; the head that says so is on disk before. */
  tidy(): void {
    this.#queue.trim();
    const needed = this.#queue.segments();
    for (const span of this.#state.spans) needed.add(span.segment);
    const newestStays =
      this.#writer.currentNumber ?? (this.#openStreams.size > 0 ? this.#shelf.newest : undefined);
    const unneeded = this.#shelf.unneeded(needed, newestStays);
    const isWanted = (segment: number): boolean => this.#o.holds?.isWanted(segment) === true;
    const gone = unneeded.filter((segment) => !isWanted(segment));
    const held = unneeded.filter(isWanted);
    gone.push(...this.#shelf.heldInVain(isWanted));
    const nowMs = this.#o.clock.monotonicMs();
    if (gone.length === 0 && held.length === 0 && nowMs < this.#headDueMs) return;
    this.#headDueMs = nowMs + HEAD_SAVE_MS;
    this.#saveHead();
    this.#shelf.remove(gone);
    this.#shelf.hold(held);
    this.giveUpHeld();
  }

  #saveHead(): void {
    const state = this.#state;
    writeHead(this.#o.directory, {
      v: 1,
      chain: state.chain,
      epoch: state.epoch,
      batch: state.lastBatch,
      seal: state.lastSeal?.toString('hex') ?? null,
      seq: state.lastSeq,
      final: state.final,
      acknowledged: this.#acknowledged,
      exported: this.#exported,
    });
  }
}
