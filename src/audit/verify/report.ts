/** What can be wrong with a store of evidence. */
export type FindingKind =
  | 'no_anchor'
  | 'signer_unknown'
  | 'signer_revoked'
  | 'signature_invalid'
  | 'seal_altered'
  | 'seal_missing'
  | 'seal_order'
  | 'leaves_missing'
  | 'leaf_altered'
  | 'event_altered'
  | 'event_missing'
  | 'event_inserted'
  | 'event_unsealed'
  | 'column_altered'
  | 'chain_missing'
  | 'chain_truncated'
  | 'chain_forked'
  | 'chain_row_altered'
  | 'head_missing'
  | 'head_differs'
  | 'change_missing'
  | 'change_waiting'
  | 'change_differs';

export interface Finding {
  readonly kind: FindingKind;
  readonly chain_id: string | null;
  readonly batch_no: number | null;
  readonly seq: number | null;
  readonly message: string;
}

export interface VerifyReport {
  /** No finding. */
  readonly ok: boolean;
  readonly chains: number;
  readonly seals: number;
  readonly events: number;
  readonly findings: readonly Finding[];
  /** Findings beyond the ones listed, when there are very many. */
  readonly more_findings: number;
  /** Whether heads from outside the database were compared. */
  readonly truncation: 'checked' | 'not checked';
  /** Chains that begin without a predecessor: first starts, lost spools, refused chains. */
  readonly breaks: number;
  /** Close events that writers dropped and counted. */
  readonly dropped: number;
  /** Changes of a control database that were compared; null without one. */
  readonly changes: number | null;
  readonly notes: readonly string[];
}

/** Most findings listed; the rest is counted. */
const MAX_FINDINGS = 1_000;

/** Collects findings. */
export class Findings {
  readonly list: Finding[] = [];
  more = 0;

  add(kind: FindingKind, message: string, at: { chain?: string; batch?: number; seq?: number } = {}): void {
    if (this.list.length >= MAX_FINDINGS) {
      this.more += 1;
      return;
    }
    this.list.push({
      kind,
      chain_id: at.chain ?? null,
      batch_no: at.batch ?? null,
      seq: at.seq ?? null,
      message,
    });
  }
}
