import type { Clock, ErrorCode, Logger } from '../runtime/index.ts';
import type { FreshnessStatus } from './bundle/freshness.ts';
import type { VerificationKey } from './bundle/signature.ts';
import type { EvaluationRequest } from './engine/messages.ts';
import type { EngineStats, EvaluationOutcome, Lane } from './engine/pool.ts';

/** The bundle that decides now. */
export interface ActiveBundle {
  readonly sha256: string;
  readonly revision: string;
  readonly sequence: number;
  /** The configured id of the key that verified its signature; undefined when none was asked for. */
  readonly signedBy: string | undefined;
  /** Rises with every activation, grants reloads included; never reused in a process. */
  readonly generation: number;
  /** Wall clock of the activation, milliseconds since the epoch. */
  readonly activatedMs: number;
  /** The archive, for the audit's own copy. */
  readonly bytes: Buffer;
}

/** A bundle or grants file that was not activated; the one before stays. */
export interface RejectedBundle {
  readonly atMs: number;
  readonly code: ErrorCode;
  readonly message: string;
}

/** Repeated engine failures of one kind of stream. */
export interface PolicyAlarm {
  /** Connection, a space, and principal or `publish`. */
  readonly kind: string;
  readonly failures: number;
}

/** What an activation would do to the live streams. */
export interface CloseReview {
  readonly wouldClose: number;
  readonly live: number;
}

/** An activation that waits for somebody to confirm it. */
export interface HeldBundle extends CloseReview {
  /** Tells it from any other: the bundle's digest, with grants from a file one over both. */
  readonly id: string;
  readonly sha256: string;
  readonly revision: string;
  readonly sequence: number;
  readonly atMs: number;
}

/** What decides: the host, or a bundle that is being looked at before it is activated. */
export interface Decider {
  readonly active: ActiveBundle | undefined;
  readonly generation: number;
  readonly stale: FreshnessStatus | undefined;
  /** Never rejects. */
  evaluate(request: EvaluationRequest, kind: string, lane: Lane): Promise<EvaluationOutcome>;
}

/** Looks at what activating a bundle would close, and says whether it is to be held for that. */
export type Review = (candidate: Decider) => Promise<CloseReview & { readonly isHeld: boolean }>;

export interface PolicyStatus {
  readonly active: Omit<ActiveBundle, 'bytes'> | undefined;
  readonly held: HeldBundle | undefined;
  readonly rejected: RejectedBundle | undefined;
  readonly freshness: FreshnessStatus;
  readonly engine: EngineStats | undefined;
}

export interface PolicyHostOptions {
  /** Where the bundle comes from: a file that is watched, or a source of this name that calls `offer`. */
  readonly source: { readonly file: string } | { readonly name: string };
  /** Everything is denied when the source has not confirmed its bundle for this long; default: no such limit. */
  readonly maxAgeMs?: number;
  /** Grants of their own (YAML or JSON), in place of the bundle's `data.sallyport.grants`; reloaded live. */
  readonly dataFile?: string;
  /** Where the last good bundle of this source is kept over restarts; absent = not kept. */
  readonly stateDir?: string;
  /** Evaluators working at a time, at least and by default two. */
  readonly workers?: number;
  /** Refuses bundles without a signature by one of `keys`. */
  readonly requireSigned?: boolean;
  /** With keys, a signature that is there must hold even where none is required. */
  readonly keys?: readonly VerificationKey[];
  /** Longest evaluation, milliseconds; default 100. */
  readonly budgetMs?: number;
  /** Longest wait of an open for an evaluator, milliseconds; default 250. */
  readonly openWaitMs?: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What became of a bundle that a source offered. */
export type OfferOutcome = 'active' | 'held' | 'refused';
