import type pg from 'pg';
import type { TrustFile } from '../seal/trust.ts';
import type { Piece, PieceResult, PieceRunner } from './piece.ts';
import { checkPiece } from './piece-check.ts';
import type { Alibis } from './retention-check.ts';
import { SignerCheck } from './signer-check.ts';

/** What all pieces of a run have in common. Plain data. */
export interface PieceSetup {
  readonly trust: TrustFile | undefined;
  readonly siteTrust: ReadonlyMap<string, TrustFile>;
  readonly columns: readonly string[] | undefined;
  readonly alibis: Alibis;
}

/** Checks pieces with one connection, one after the other. */
export class PieceChecker implements PieceRunner {
  readonly width = 1;
  readonly #client: pg.ClientBase;
  readonly #setup: PieceSetup;
  readonly #signers: SignerCheck;
  readonly #siteSigners: ReadonlyMap<string, SignerCheck>;
  readonly #onEvents: (count: number) => void;

  /** The connection stays its caller's. */
  constructor(client: pg.ClientBase, setup: PieceSetup, onEvents: (count: number) => void) {
    this.#client = client;
    this.#setup = setup;
    this.#onEvents = onEvents;
    this.#signers = new SignerCheck(setup.trust);
    this.#siteSigners = new Map([...setup.siteTrust].map(([site, trust]) => [site, new SignerCheck(trust)]));
  }

  check(piece: Piece): Promise<PieceResult> {
    const { columns, alibis } = this.#setup;
    const ofSite = piece.site === null ? undefined : this.#siteSigners.get(piece.site);
    return checkPiece(piece, {
      client: this.#client,
      signers: ofSite ?? this.#signers,
      columns,
      alibis,
      // An export need not hold every chain of its site; only that site's own signers make a chain one of an export.
      witnesses: ofSite === undefined,
      onEvents: this.#onEvents,
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
