import type { SeenHeads } from './countersigned.ts';
import type { Position } from './position.ts';
import type { FindingsPart } from './report.ts';

/** A stretch of one chain that is checked at one go. Plain data: pieces go to other threads. */
export interface Piece {
  readonly chain: string;
  /** Site that it was imported from; null for one written here. */
  readonly site: string | null;
  /** Where the walk stands before it, or is guessed to. */
  readonly entry: Position;
  /** `batch_no` of its last row; null to the end of the chain, and of the events behind it. */
  readonly upTo: string | null;
}

export interface RetainedCount {
  readonly batches: number;
  readonly events: number;
}

/** What the seals of a stretch add up to. Plain data. */
export interface Sums {
  seals: number;
  events: number;
  dropped: number;
  /** Sum of what the seals say that they cover. */
  sealedEvents: number;
  /** No batch is missing and every seal is sound. */
  whole: boolean;
  /** What batch 1 says of the chain before it; null when it is not in the stretch. */
  start: { readonly prev: string | null; readonly prevChain: string | null } | null;
  /** Batches and events that are missing under a request for retention, by its id. */
  readonly retained: Map<string, RetainedCount>;
}

/** Events that no sound seal covers. */
export interface Stray {
  readonly first: number;
  readonly count: number;
}

/** A chain as far as it was walked. */
export interface ChainTotals {
  readonly chain: string;
  readonly site: string | null;
  position: Position;
  readonly sums: Sums;
  stray: Stray | null;
}

/** Right when the entry of its piece is where the piece before came out. Plain data. */
export interface PieceResult {
  readonly exit: Position;
  readonly sums: Readonly<Sums>;
  readonly stray: Stray | null;
  readonly findings: FindingsPart;
  readonly heads: SeenHeads;
}

/** Checks pieces, several at once or one after the other. */
export interface PieceRunner {
  /** Pieces that it is worth handing in at once. */
  readonly width: number;
  /** @throws AppError ERR_AUDIT_DATABASE */
  check(piece: Piece): Promise<PieceResult>;
  /** Lets go of its connections; what is under way is given up. */
  close(): Promise<void>;
}

export const emptySums = (): Sums => ({
  seals: 0,
  events: 0,
  dropped: 0,
  sealedEvents: 0,
  whole: true,
  start: null,
  retained: new Map(),
});

export const addRetained = (to: Map<string, RetainedCount>, request: string, more: RetainedCount): void => {
  const { batches, events } = to.get(request) ?? { batches: 0, events: 0 };
  to.set(request, { batches: batches + more.batches, events: events + more.events });
};

export const addStray = (to: Stray | null, more: Stray | null): Stray | null => {
  if (to === null || more === null) return to ?? more;
  return { first: to.first, count: to.count + more.count };
};

/** Adds what a later stretch of the same chain adds up to. */
export const addSums = (to: Sums, more: Readonly<Sums>): void => {
  to.seals += more.seals;
  to.events += more.events;
  to.dropped += more.dropped;
  to.sealedEvents += more.sealedEvents;
  to.whole &&= more.whole;
  to.start = more.start ?? to.start;
  for (const [request, count] of more.retained) addRetained(to.retained, request, count);
};

/** Whether nothing is wrong in a piece, so that it need not be read again. */
export const isClean = ({ findings, stray, heads }: PieceResult): boolean =>
  findings.list.length + findings.more === 0 &&
  stray === null &&
  heads.differing.length + heads.missing.length === 0;
