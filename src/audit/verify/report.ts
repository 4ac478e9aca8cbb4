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
  | 'countersigned_head_missing'
  | 'countersigned_head_differs'
  | 'checkpoint_altered'
  | 'checkpoint_signer'
  | 'checkpoint_line_missing'
  | 'checkpoint_forked'
  | 'checkpoint_missing'
  | 'checkpoint_head_missing'
  | 'checkpoint_head_differs'
  | 'resume_differs'
  | 'retention_invalid'
  | 'retention_unrecorded'
  | 'retention_too_young'
  | 'retention_unaccepted'
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

/** A request for retention that holds, and what is missing under it. */
export interface Retained {
  readonly retention_id: string;
  /** Name of the operator in the trust file, and the key. */
  readonly operator: string;
  readonly signer: string;
  /** When it was signed, by the operator's clock. */
  readonly time: string;
  /** Only what was sealed before this may be missing. */
  readonly before: string;
  readonly batches: number;
  readonly events: number;
}

/** What this run did not read. */
export interface NotRead {
  /** `resume`: earlier runs verified it. `since`: nobody was asked to. */
  readonly because: 'resume' | 'since';
  /** When the last of the earlier runs took it down; or what was sealed before this time, RFC 3339. */
  readonly at: string;
  readonly seals: number;
  readonly events: number;
}

export interface VerifyReport {
  /** No finding, and what was not read was verified before. */
  readonly ok: boolean;
  /** `full`: everything was read. `resumed`: or was by earlier runs. `partial`: only what was sealed since a time. */
  readonly coverage: 'full' | 'resumed' | 'partial';
  readonly not_read: NotRead | null;
  readonly chains: number;
  /** That were read. */
  readonly seals: number;
  readonly events: number;
  readonly findings: readonly Finding[];
  /** Findings beyond the ones listed, when there are very many. */
  readonly more_findings: number;
  /** `checked` when every chain that none continues has a head from outside the database: a head file's or a checkpoint's. */
  readonly truncation: 'checked' | 'not checked';
  /** Chains that begin without a predecessor: first starts, lost spools, refused chains. */
  readonly breaks: number;
  /** Close events that writers dropped and counted. */
  readonly dropped: number;
  /** Checkpoints of files that are believed; null without a file. */
  readonly checkpoints: number | null;
  /** Changes of a control database that were compared; null without one. */
  readonly changes: number | null;
  /** What retention removed, under whose signature. */
  readonly retained: readonly Retained[];
  readonly notes: readonly string[];
}

/** Most findings listed; the rest is counted. */
const MAX_FINDINGS = 1_000;

/** Findings of a part, as they travel between threads. Plain data. */
export interface FindingsPart {
  readonly list: readonly Finding[];
  readonly more: number;
  /** Those that are said once, and where each stands among all of the part. */
  readonly once: readonly { readonly key: string; readonly at: number }[];
}

/** Collects findings. */
export class Findings {
  readonly list: Finding[] = [];
  more = 0;
  readonly #once = new Map<string, number>();

  get count(): number {
    return this.list.length + this.more;
  }

  /** The same finding for each event of a range, without walking through those that are not listed. */
  addRange(
    kind: FindingKind,
    message: string,
    at: { chain: string; batch: number },
    first: number,
    last: number,
  ): void {
    const listed = Math.min(last - first + 1, Math.max(MAX_FINDINGS - this.list.length, 0));
    for (let seq = first; seq < first + listed; seq += 1) this.add(kind, message, { ...at, seq });
    this.more += Math.max(last - first + 1 - listed, 0);
  }

  add(kind: FindingKind, message: string, at: { chain?: string; batch?: number; seq?: number } = {}): void {
    this.#take({
      kind,
      chain_id: at.chain ?? null,
      batch_no: at.batch ?? null,
      seq: at.seq ?? null,
      message,
    });
  }

  /** A finding that is not said again of the same chain. */
  addOnce(kind: FindingKind, message: string, at: { chain: string; batch: number }): void {
    const key = `${at.chain} ${kind} ${message}`;
    if (this.#once.has(key)) return;
    this.#once.set(key, this.count);
    this.add(kind, message, at);
  }

  /** What was collected, to be taken up elsewhere. */
  part(): FindingsPart {
    return { list: this.list, more: this.more, once: [...this.#once].map(([key, at]) => ({ key, at })) };
  }

  /** Takes up what was found in a part, as if it had been found here: what was said is not said again. */
  addPart({ list, more, once }: FindingsPart): void {
    const repeated = once.filter(({ key }) => this.#once.has(key)).map(({ at }) => at);
    for (const { key, at } of once) if (!this.#once.has(key)) this.#once.set(key, this.count + at);
    const again = new Set(repeated);
    for (const [at, finding] of list.entries()) if (!again.has(at)) this.#take(finding);
    // Whatever is repeated stands here already, so that those listed of a full part fill what is left.
    this.more += more - repeated.filter((at) => at >= list.length).length;
  }

  #take(finding: Finding): void {
    if (this.list.length >= MAX_FINDINGS) this.more += 1;
    else this.list.push(finding);
  }
}
