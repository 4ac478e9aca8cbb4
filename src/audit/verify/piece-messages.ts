import type { Piece, PieceResult } from './piece.ts';
import type { PieceSetup } from './piece-checker.ts';

/** What a worker that checks pieces is started with. */
export interface PieceWorkerData {
  readonly databaseUrl: string;
  /** Id of the exported snapshot. */
  readonly snapshot: string;
  readonly setup: PieceSetup;
}

export type ToPieceWorker =
  | { readonly kind: 'check'; readonly piece: Piece }
  /** Nothing more will be asked: it lets go of its connection and ends. */
  | { readonly kind: 'end' };

export type FromPieceWorker =
  | { readonly kind: 'ready' }
  | { readonly kind: 'checked'; readonly result: PieceResult }
  | { readonly kind: 'events'; readonly count: number }
  /** It ends; the message says what failed. */
  | { readonly kind: 'failed'; readonly message: string };
