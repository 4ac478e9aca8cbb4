import type { CloseReason } from '../runtime/index.ts';

/** Rechecked this often unless a rule says otherwise, in seconds. */
export const DEFAULT_RECHECK_SECONDS = 60;
/** No rule may ask for more frequent rechecks than this, in seconds. */
export const MIN_RECHECK_SECONDS = 5;

/** What an allowed stream must keep to; the lowest of all live rules and limits wins. Absent = no limit. */
export interface Obligations {
  readonly max_seconds?: number;
  readonly max_bytes?: number;
  readonly idle_seconds?: number;
  readonly recheck_seconds: number;
  readonly max_streams_per_principal?: number;
}

/** A reason code from the documented list, or `policy:<rule id>` for an author's deny. */
export interface DecisionReason {
  readonly code: string;
  readonly args: Readonly<Record<string, unknown>>;
}

/** What the policy answers for one candidate address, after every field has been checked. */
export interface Verdict {
  readonly allow: boolean;
  readonly rule: string | null;
  readonly rules: { readonly publish: readonly string[]; readonly stream: readonly string[] };
  readonly reasons: readonly DecisionReason[];
  readonly obligations: Obligations;
  /** UTC instant of 20 characters at which some live rule ends. */
  readonly recheck_at: string | null;
}

/** Who made the decision: managed settings, the guard in code, the bundle, or the engine's own failure. */
export type DecidedBy = 'managed' | 'guard' | 'policy' | 'engine' | 'limit' | 'audit';

export interface DecisionCandidate {
  readonly address: string;
  readonly verdict: 'allowed' | 'denied' | 'guard' | 'managed';
  /** Reason codes, in the policy's order. */
  readonly reasons: readonly string[];
}

/** The bundle that decided. */
export interface DecisionBundle {
  /** Hex SHA-256 of the archive's bytes. */
  readonly sha256: string;
  readonly revision: string;
  readonly sequence: number;
  /** Hex SHA-256 of the grants that took the place of the bundle's; absent when its own decided. */
  readonly grants_sha256?: string;
}

/** One decision over all candidate addresses of one publish or one stream open. */
export interface Decision {
  readonly allow: boolean;
  readonly decided_by: DecidedBy;
  /** Why the stream is refused or cut; undefined when allowed. */
  readonly reason: CloseReason | undefined;
  readonly rule: string | null;
  readonly rules: { readonly publish: readonly string[]; readonly stream: readonly string[] };
  readonly reasons: readonly DecisionReason[];
  readonly obligations: Obligations;
  readonly recheck_at: string | null;
  /** In resolver order; nothing else may be dialled. */
  readonly allowed_addresses: readonly string[];
  readonly candidates: readonly DecisionCandidate[];
  /** Canonical input that was evaluated, without `target.address`. */
  readonly input: string;
  readonly bundle?: DecisionBundle;
  /** Hex SHA-256 of the managed settings that held; absent when there were none. */
  readonly managed_sha256?: string;
  /** The host's generation when this was decided; compare with `host.generation` in the tick that registers. */
  readonly generation: number;
  /** Time inside the engine over all candidates, microseconds. */
  readonly eval_us: number;
}
