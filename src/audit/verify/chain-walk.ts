import type pg from 'pg';
import {
  addStray,
  addSums,
  type ChainTotals,
  type Piece,
  type PieceResult,
  type PieceRunner,
} from './piece.ts';
import { likelyAfter, samePosition } from './position.ts';
import { sealAfterBatches } from './stored-seals.ts';

/**
 * So many pieces of a chain may turn out to have begun at the wrong place; what follows waits for the one before. A wrong
 * guess may have read the whole chain.
 */
const MAX_WRONG_GUESSES = 3;

export interface WalkOptions {
  /** In the snapshot of the runner. */
  readonly client: pg.ClientBase;
  readonly runner: PieceRunner;
  readonly pieceBatches: number;
  /** Called in the order of the chains and of their pieces; the totals contain the piece. */
  readonly onPiece: (totals: ChainTotals, result: PieceResult) => void;
  /** Called behind the last piece of a chain. */
  readonly onChain: (totals: ChainTotals) => void;
  /** Asked before each piece. */
  readonly isStopped: () => boolean;
}

interface Planned {
  readonly totals: ChainTotals;
  readonly piece: Piece;
}

/** Pieces in their order. Where each begins is told from the seal before it, which no one has checked yet. */
const plan = async function* (
  client: pg.ClientBase,
  chains: readonly ChainTotals[],
  batches: number,
): AsyncGenerator<Planned> {
  for (const totals of chains) {
    const { chain, site } = totals;
    for (let entry = totals.position; ; ) {
      const end = await sealAfterBatches(client, chain, entry.place, batches);
      yield { totals, piece: { chain, site, entry, upTo: end?.place ?? null } };
      if (end === undefined) break;
      entry = likelyAfter(end);
    }
  }
};

/** Walks the chains piece by piece, with the outcome of a walk from batch to batch. */
class ChainWalk {
  readonly #options: WalkOptions;
  readonly #plan: AsyncGenerator<Planned>;
  readonly #wrongGuesses = new Map<ChainTotals, number>();
  readonly #underWay: (Planned & { readonly result: Promise<PieceResult> })[] = [];
  /** Planned, and waiting for what is under way. */
  #next: Planned | undefined;

  constructor(chains: readonly ChainTotals[], options: WalkOptions) {
    this.#options = options;
    this.#plan = plan(options.client, chains, options.pieceBatches);
  }

  /** False when it was stopped. */
  async run(): Promise<boolean> {
    const { runner, isStopped, onPiece, onChain } = this.#options;
    for (;;) {
      if (isStopped()) return false;
      await this.#handIn();
      const first = this.#underWay.shift();
      if (first === undefined) return true;
      const { totals, piece } = first;
      let result = await first.result;
      if (!samePosition(piece.entry, totals.position)) {
        this.#wrongGuesses.set(totals, (this.#wrongGuesses.get(totals) ?? 0) + 1);
        result = await runner.check({ ...piece, entry: totals.position });
      }
      totals.position = result.exit;
      totals.stray = addStray(totals.stray, result.stray);
      addSums(totals.sums, result.sums);
      onPiece(totals, result);
      if (piece.upTo === null) onChain(totals);
    }
  }

  async #handIn(): Promise<void> {
    const { runner } = this.#options;
    while (this.#underWay.length < runner.width) {
      this.#next ??= ((await this.#plan.next()) as IteratorResult<Planned, undefined>).value;
      if (this.#next === undefined) return;
      const { totals, piece: planned } = this.#next;
      // With nothing under way it is known where the walk stands.
      const isKnown = this.#underWay.length === 0;
      if (!isKnown && !this.#mayGuess(totals, planned)) return;
      const piece = isKnown ? { ...planned, entry: totals.position } : planned;
      this.#next = undefined;
      const result = runner.check(piece);
      // Its turn comes later, and may never come.
      result.catch(() => undefined);
      this.#underWay.push({ totals, piece, result });
    }
  }

  #mayGuess(totals: ChainTotals, { entry }: Piece): boolean {
    return entry.known && (this.#wrongGuesses.get(totals) ?? 0) < MAX_WRONG_GUESSES;
  }
}

/** Walks chains from where their totals stand to their ends. Returns false when it was stopped before. */
export const walkChains = (chains: readonly ChainTotals[], options: WalkOptions): Promise<boolean> =>
  new ChainWalk(chains, options).run();
