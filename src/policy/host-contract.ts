import type { Clock, ErrorCode, Logger } from '../runtime/index.ts';
import type { CatalogEntry } from './bundle/bundle.ts';
import type { FreshnessStatus } from './bundle/freshness.ts';
import type { OriginOptions } from './bundle/origin.ts';
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
  /** Its rules. */
  readonly catalog: readonly CatalogEntry[];
  /** What takes the place of its grants; undefined when its own decide. */
  readonly grants: ActiveGrants | undefined;
}

/** Grants from a file of their own, as the engine has them. */
export interface ActiveGrants {
  /** JSON; the same grants give the same text, however their file is written. */
  readonly text: string;
  /** Hex SHA-256 of the text. */
  readonly sha256: string;
}

/** A bundle or grants file that was not activated; the one before stays. */
export interface RejectedBundle {
  readonly atMs: number;
  /** Of the archive, or of the grants; undefined when there were none to read. */
  readonly sha256: string | undefined;
  readonly code: ErrorCode;
  readonly message: string;
  /** The grants file, where it is that which was not taken. */
  readonly file?: string;
}

/** A bundle that decided until its keys counted no more, or until bundles came from elsewhere. */
export interface WithdrawnBundle {
  readonly atMs: number;
  readonly sha256: string;
  readonly sequence: number;
  /** Id of the key that had verified it; undefined when none was asked for. */
  readonly signedBy: string | undefined;
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
export interface HeldBundle extends CloseReview, Pick<ActiveBundle, 'signedBy'> {
  /** Tells it from any other: the bundle's digest, with grants from a file one over both. */
  readonly id: string;
  readonly sha256: string;
  readonly revision: string;
  readonly sequence: number;
  /** Of the grants file that comes with it. */
  readonly grantsSha256?: string;
  readonly atMs: number;
}

/** An activation that somebody confirmed, until another bundle is active: what it closed, counted once more at the swap. */
export interface ConfirmedActivation {
  /** As `HeldBundle.id`. */
  readonly id: string;
  /** When it was counted again. */
  readonly atMs: number;
  /** Undefined where it could not be counted again: a confirmation does not depend on that. */
  readonly counted: CloseReview | undefined;
  /** What somebody confirmed. */
  readonly held: HeldBundle;
}

/** What decides: the host, or a bundle that is being looked at before it is activated. */
export interface Decider {
  readonly active: ActiveBundle | undefined;
  readonly generation: number;
  readonly stale: FreshnessStatus | undefined;
  /** Why the bundle that was active is not any more, while none has taken its place. */
  readonly withdrawn?: WithdrawnBundle | undefined;
  /** Never rejects. */
  evaluate(request: EvaluationRequest, kind: string, lane: Lane): Promise<EvaluationOutcome>;
}

/** Looks at what activating a bundle would close, and says whether it is to be held for that. */
export type Review = (candidate: Decider) => Promise<CloseReview & { readonly isHeld: boolean }>;

export interface PolicyStatus {
  readonly active:
    | (Omit<ActiveBundle, 'bytes' | 'catalog' | 'grants'> & { readonly grantsSha256?: string })
    | undefined;
  readonly held: HeldBundle | undefined;
  /** Of the active bundle, when it had been held. */
  readonly confirmed: ConfirmedActivation | undefined;
  readonly rejected: RejectedBundle | undefined;
  /** The grants file as it is now, while it is not taken. */
  readonly grantsRejected: RejectedBundle | undefined;
  /** Path of the grants file; undefined when the bundle's own grants decide. */
  readonly grantsFile: string | undefined;
  readonly withdrawn: WithdrawnBundle | undefined;
  /** Bundles come from another source now than the active one came from. */
  readonly isMoving: boolean;
  readonly freshness: FreshnessStatus;
  readonly engine: EngineStats | undefined;
}

export interface PolicyHostOptions extends OriginOptions {
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
  /** Longest start of a bundle's engine, milliseconds; default 30,000. */
  readonly startLimitMs?: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What became of a bundle that a source offered. */
export type OfferOutcome = 'active' | 'held' | 'refused';
