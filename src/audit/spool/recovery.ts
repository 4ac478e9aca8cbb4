import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { leafHash, merkleRoot } from '../seal/merkle.ts';
import { readSeal, sealDigest } from '../seal/seal.ts';
import { SIGNATURE_BYTES } from '../seal/audit-key.ts';
import {
  addSpan,
  type Batch,
  type ChainState,
  newChain,
  type OpenStream,
  openStreamOf,
  type Span,
} from './chain-state.ts';
import type { FileLayer } from './file-layer.ts';
import { accountOfEvent, PrincipalShares } from './principal-shares.ts';
import { readEventPayload, readRecords, RECORD, SEGMENT_MAGIC, type SpoolRecord } from './record.ts';
import { segmentName, segmentNumberOf } from './segment-writer.ts';

export const headerSchema = z.object({
  v: z.literal(1),
  segment: z.int(),
  chain: z.uuid(),
  epoch: z.int().positive(),
  prev_chain: z.uuid().nullable(),
  prev_chain_seal: z.string().nullable(),
  /** Where the chain stood when the segment was begun. */
  last_seq: z.int().nonnegative(),
  sealed_seq: z.int().nonnegative(),
  last_batch: z.int().nonnegative(),
  last_seal: z.string().nullable(),
});

export type SegmentHeader = z.output<typeof headerSchema>;

/** What a spool directory holds. */
export interface Recovered {
  readonly nextSegment: number;
  readonly segmentBytes: ReadonlyMap<number, number>;
  /** Chain that each segment belongs to. */
  readonly segmentChain: ReadonlyMap<number, string>;
  readonly batches: Batch[];
  /** Segments that begin within a batch: they need the one before them. */
  readonly glued: ReadonlySet<number>;
  /** State of the newest chain. */
  readonly last: ChainState | undefined;
  readonly openStreams: Map<string, OpenStream>;
  readonly shares: PrincipalShares;
  /** Why something in the spool could not be used. */
  readonly broken: string | undefined;
}

const streamLife = z.object({
  type: z.string(),
  subject: z.object({ stream_id: z.string() }),
  data: z.object({ allow: z.boolean().optional() }),
});

/** Follows streams through canonical events: an allowed decision opens one, its end closes it. */
const followStream = (open: Map<string, OpenStream>, text: string): void => {
  if (!text.includes('"type":"stream.')) return;
  const life = streamLife.safeParse(JSON.parse(text));
  if (!life.success) return;
  const streamId = life.data.subject.stream_id;
  if (life.data.type === 'stream.decision' && life.data.data.allow === true) {
    open.set(streamId, openStreamOf(streamId, text));
  } else if (life.data.type === 'stream.close' || life.data.type === 'stream.refused') {
    open.delete(streamId);
  }
};

/** What a batch was made of, to take its seal back. */
interface Unsealing {
  readonly leaves: Buffer[];
  readonly lengths: number[];
  readonly spans: Span[];
  readonly lastSeal: Buffer | null;
}

class Reader {
  readonly batches: Batch[] = [];
  readonly openStreams = new Map<string, OpenStream>();
  readonly shares = new PrincipalShares();
  readonly #lengths: number[] = [];
  #spans: Span[] = [];
  /** Of the batches that the newest segment sealed. */
  #unsealings: Unsealing[] = [];
  state: ChainState | undefined;
  broken: string | undefined;

  begin(header: SegmentHeader): void {
    if (this.state?.chain === header.chain) {
      this.#rewind(this.state, header);
      return;
    }
    this.#unsealings = [];
    this.state = {
      ...newChain({
        chain: header.chain,
        epoch: header.epoch,
        prevChain: header.prev_chain,
        prevChainSeal: header.prev_chain_seal === null ? null : Buffer.from(header.prev_chain_seal, 'hex'),
      }),
      lastSeq: header.sealed_seq,
      sealedSeq: header.sealed_seq,
      lastBatch: header.last_batch,
      lastSeal: header.last_seal === null ? null : Buffer.from(header.last_seal, 'hex'),
    };
    this.#spans = [];
    this.#lengths.length = 0;
  }

  /**
   * The segment before was abandoned and could not be cut: what it holds beyond this header was not on disk for whoever
   * wrote it, its seals included, and comes again, or never was.
   */
  #rewind(state: ChainState, header: SegmentHeader): void {
    while (state.lastBatch > header.last_batch) {
      const made = this.#unsealings.pop();
      if (made === undefined) break;
      this.batches.pop();
      state.leaves.unshift(...made.leaves);
      this.#lengths.unshift(...made.lengths);
      this.#spans.unshift(...made.spans);
      state.lastSeal = made.lastSeal;
      state.lastBatch -= 1;
      state.sealedSeq -= made.leaves.length;
      state.final = false;
    }
    this.#unsealings = [];
    if (header.last_seq >= state.lastSeq || header.last_seq < state.sealedSeq) return;
    const keep = header.last_seq - state.sealedSeq;
    state.leaves.length = keep;
    this.#lengths.length = keep;
    this.#spans.length = keep;
    state.lastSeq = header.last_seq;
  }

  /** Takes one record; false when it does not continue what came before. */
  take(found: SpoolRecord, segment: number): boolean {
    if (this.state === undefined) return false;
    if (found.kind === RECORD.event) return this.#event(this.state, found, segment);
    if (found.kind === RECORD.seal) return this.#seal(this.state, found, segment);
    if (found.kind === RECORD.openStreams) this.openStreams.clear();
    if (found.kind === RECORD.openStreams || found.kind === RECORD.moreOpenStreams)
      this.#streams(found.payload);
    return true;
  }

  #event(state: ChainState, found: SpoolRecord, segment: number): boolean {
    const { seq, canonical } = readEventPayload(found.payload);
    if (seq <= state.sealedSeq || seq > state.lastSeq + 1) return false;
    // A later segment wins: its group was rewritten after the earlier one's sync had failed.
    const keep = seq - state.sealedSeq - 1;
    state.leaves.length = keep;
    this.#lengths.length = keep;
    this.#spans.length = keep;
    state.leaves.push(leafHash(canonical));
    this.#lengths.push(canonical.length);
    this.#spans.push({ segment, from: found.from, to: found.to });
    state.lastSeq = seq;
    const text = canonical.toString('utf8');
    followStream(this.openStreams, text);
    const account = accountOfEvent(text);
    if (account !== undefined) this.shares.add(segment, account, canonical.length);
    return true;
  }

  #seal(state: ChainState, found: SpoolRecord, segment: number): boolean {
    const signature = Buffer.from(found.payload.subarray(0, SIGNATURE_BYTES));
    const text = found.payload.toString('utf8', SIGNATURE_BYTES);
    const seal = readSeal(text);
    if (seal?.chain !== state.chain || seal.batch !== state.lastBatch + 1) return false;
    if (seal.first !== state.sealedSeq + 1 || seal.n !== seal.last - seal.first + 1) return false;
    if (seal.n > state.leaves.length) return false;
    if (merkleRoot(state.leaves.slice(0, seal.n)).toString('hex') !== seal.root) return false;
    const made: Unsealing = {
      leaves: state.leaves.splice(0, seal.n),
      lengths: this.#lengths.splice(0, seal.n),
      spans: this.#spans.splice(0, seal.n),
      lastSeal: state.lastSeal,
    };
    this.#unsealings.push(made);
    const spans: Span[] = [];
    for (const span of made.spans) addSpan(spans, span);
    const eventBytes = made.lengths.reduce((sum, length) => sum + length, 0);
    const digest = sealDigest(text);
    this.batches.push({ signed: { seal, text, digest, signature }, spans, sealSegment: segment, eventBytes });
    state.lastBatch = seal.batch;
    state.sealedSeq = seal.last;
    state.lastSeal = digest;
    state.final = seal.final;
    return true;
  }

  #streams(payload: Buffer): void {
    const list = z
      .array(z.tuple([z.string(), z.string(), z.string()]))
      .safeParse(JSON.parse(payload.toString('utf8')));
    for (const [streamId, decisionId, subject] of list.data ?? []) {
      this.openStreams.set(streamId, { streamId, decisionId, subject: Buffer.from(subject) });
    }
  }

  /** Leaves of the unsealed tail are in `state`; its spans and sizes are joined in. */
  finish(): void {
    if (this.state === undefined) return;
    for (const span of this.#spans) addSpan(this.state.spans, span);
    this.state.leafBytes = this.#lengths.reduce((sum, length) => sum + length, 0);
  }
}

const headerOf = (records: Iterator<SpoolRecord, void>): SegmentHeader | undefined => {
  const first = records.next();
  if (first.done === true || first.value.kind !== RECORD.header) return undefined;
  return headerSchema.safeParse(JSON.parse(first.value.payload.toString('utf8'))).data;
};

/** Reads a spool directory: whole records only, in segment order. */
export const recoverSpool = (directory: string, files: FileLayer): Recovered => {
  const numbers = readdirSync(directory)
    .map(segmentNumberOf)
    .filter((number) => number !== undefined)
    .sort((a, b) => a - b);
  const reader = new Reader();
  const segmentBytes = new Map<number, number>();
  const segmentChain = new Map<number, string>();
  const glued = new Set<number>();
  for (const number of numbers) {
    const path = join(directory, segmentName(number));
    const bytes = files.read(path, 0, statSync(path).size);
    segmentBytes.set(number, bytes.length);
    if (!bytes.subarray(0, SEGMENT_MAGIC.length).equals(SEGMENT_MAGIC)) continue;
    const records = readRecords(bytes, SEGMENT_MAGIC.length);
    const header = headerOf(records);
    if (header === undefined) continue;
    segmentChain.set(number, header.chain);
    if (header.sealed_seq < header.last_seq) glued.add(number);
    reader.begin(header);
    for (const found of records) {
      if (!reader.take(found, number)) {
        reader.broken ??= `segment ${number} does not continue its chain at byte ${found.from}`;
        break;
      }
    }
  }
  reader.finish();
  return {
    nextSegment: (numbers.at(-1) ?? 0) + 1,
    segmentBytes,
    segmentChain,
    batches: reader.batches,
    glued,
    last: reader.state,
    openStreams: reader.openStreams,
    shares: reader.shares,
    broken: reader.broken,
  };
};
