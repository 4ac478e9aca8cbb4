import type { DecidedBy } from '../decision.ts';

/** A decision of the past, as far as it can be made again. Where it comes from is the caller's business. */
export interface PastDecision {
  readonly eventId: string;
  /** RFC 3339 instant. */
  readonly at: string;
  readonly action: 'publish' | 'stream';
  /** Its connection's name; empty when not recorded. */
  readonly connection: string;
  readonly allow: boolean;
  readonly decidedBy: DecidedBy;
  readonly rule: string | null;
  /** Every rule and grant that was live for it. */
  readonly rules: { readonly publish: readonly string[]; readonly stream: readonly string[] };
  /** Reason codes, in order. */
  readonly reasons: readonly string[];
  /** The canonical input; undefined when the decision was made before there was one. */
  readonly input: string | undefined;
  /** The candidate addresses that the guard let through. */
  readonly addresses: readonly string[];
  /** Those of them that it allowed. */
  readonly allowedAddresses: readonly string[];
  /**
   * How many decisions it stands for, at least 1. More only of denials that an agent counted together: of one connection,
   * key, reason and target host, with the input of the last; sources, addresses and times of the others may differ.
   */
  readonly count: number;
}

/** What a draft would have said instead. */
export type ReplayChange =
  | 'newly_denied'
  | 'newly_allowed'
  | 'rule'
  | 'reasons'
  /** The draft has no verdict: it throws, loops or answers nonsense. An agent would deny. */
  | 'error';

export interface ReplayAnswer {
  readonly allow: boolean;
  readonly rule: string | null;
  readonly reasons: readonly string[];
}

/** One recorded decision that the draft would have made otherwise. */
export interface ChangedDecision {
  readonly change: ReplayChange;
  readonly eventId: string;
  readonly at: string;
  readonly action: 'publish' | 'stream';
  readonly connection: string;
  /** Of the stream's key; of a publish, the listener's. */
  readonly principal: string;
  /** `HOST:PORT` */
  readonly target: string;
  readonly count: number;
  readonly was: ReplayAnswer;
  /** Undefined when the draft has no verdict. */
  readonly now: ReplayAnswer | undefined;
  /** Why there is no verdict. */
  readonly detail: string | undefined;
}
