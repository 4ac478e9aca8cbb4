import type { SignedSeal } from '../seal/seal.ts';

/** A run of records of one batch within one segment file. */
export interface Span {
  readonly segment: number;
  readonly from: number;
  readonly to: number;
}

/** A sealed batch that some sink still needs. */
export interface Batch {
  readonly signed: SignedSeal;
  /** Where its event records are, in order. */
  readonly spans: readonly Span[];
  /** Segment of the seal record itself. */
  readonly sealSegment: number;
  /** Sum of its canonical bytes. */
  readonly eventBytes: number;
}

/** An allowed stream whose end is not yet recorded. */
export interface OpenStream {
  readonly streamId: string;
  /** Event id of the decision. */
  readonly decisionId: string;
  /** Canonical subject of the decision. */
  readonly subject: Buffer;
}

/** Where a chain stands: everything that the next seal needs. */
export interface ChainState {
  readonly chain: string;
  readonly epoch: number;
  /** Chain that this one continues, and the digest of that chain's last seal. */
  readonly prevChain: string | null;
  readonly prevChainSeal: Buffer | null;
  lastSeq: number;
  lastBatch: number;
  /** Last sequence number under a seal. */
  sealedSeq: number;
  lastSeal: Buffer | null;
  final: boolean;
  /** Leaves of the events that no seal covers yet. */
  leaves: Buffer[];
  leafBytes: number;
  spans: Span[];
}

export const newChain = (o: {
  chain: string;
  epoch: number;
  prevChain: string | null;
  prevChainSeal: Buffer | null;
}): ChainState => ({
  ...o,
  lastSeq: 0,
  lastBatch: 0,
  sealedSeq: 0,
  lastSeal: null,
  final: false,
  leaves: [],
  leafBytes: 0,
  spans: [],
});

/** Adds a span, joined to the last one when they touch. */
export const addSpan = (spans: Span[], span: Span): void => {
  const last = spans.at(-1);
  if (last?.segment === span.segment && last.to === span.from) {
    spans[spans.length - 1] = { ...last, to: span.to };
  } else if (span.to > span.from) {
    spans.push(span);
  }
};

const SUBJECT = '"subject":';
const TYPE = ',"type":';
const ID = /"id":"([0-9a-f-]{36})",(?:"local"|"origin")/;

/**
 * What a canonical event says of a stream's life. Member names cannot occur inside canonical strings (quotes
 * are escaped there) and `data` stands before `subject`, so the last occurrence is the envelope's own.
 */
export const openStreamOf = (streamId: string, text: string): OpenStream => {
  const from = text.lastIndexOf(SUBJECT) + SUBJECT.length;
  return {
    streamId,
    decisionId: ID.exec(text.slice(0, from).slice(-1024))?.[1] ?? '',
    subject: Buffer.from(text.slice(from, text.lastIndexOf(TYPE)), 'utf8'),
  };
};
