import type { MessagePort } from 'node:worker_threads';
import type { FileHooks, OutageMode } from '../audit-log.ts';
import type { HeadPosition } from './head-file.ts';
import type { PrincipalBytes } from './principal-shares.ts';

/** What an event means for admission beyond the quota; vital ones tell of the trail itself and always go in. */
export const EVENT_CLASS = { other: 0, decision: 1, close: 2, vital: 3 } as const;

/** One event on its way to the spool: canonical text, class, who caused it, and the stream that it opens or closes. */
export interface SpoolItem {
  readonly text: string;
  readonly class: number;
  /** Whose share of the quota it uses; none where no principal caused it. */
  readonly principal?: string | undefined;
  readonly opens?: string | undefined;
  readonly closes?: string | undefined;
}

/** Most events of one message, and the number from which no further message joins a group. */
export const MAX_GROUP_EVENTS = 2_000;

/** `overShare`: refused because its principal holds more than an equal part of a quota that is nearly used up. */
export const OUTCOME = { kept: 0, dropped: 1, refused: 2, overShare: 3 } as const;

/** A batch as it goes to the database. */
export interface OutgoingBatch {
  readonly chain: string;
  readonly batch: number;
  readonly seal: string;
  readonly signature: Uint8Array;
  readonly digest: string;
  readonly n: number;
}

export interface OutgoingBatches {
  readonly batches: readonly OutgoingBatch[];
  /** Canonical bytes of all events, one after the other. */
  readonly events: Uint8Array;
  readonly lengths: readonly number[];
}

export interface LostStream {
  readonly stream_id: string;
  readonly decision_id: string;
  /** JSON of the decision's subject. */
  readonly subject: string;
}

export interface PreviousChain {
  readonly chain: string;
  readonly batch: number;
}

/** What the worker tells with every answer. */
export interface SpoolState {
  readonly chain: string;
  readonly lastSeq: number;
  readonly lastBatch: number;
  readonly lastSeal: string | null;
  /** The last batch that the database acknowledged, maybe of the chain before. */
  readonly acknowledged: HeadPosition | null;
  readonly spoolBytes: number;
  /** Principals whose decisions are refused now, while others' are taken. */
  readonly overShare: readonly PrincipalBytes[];
  readonly unsealed: number;
  readonly unacknowledged: number;
  /** Seal time of the oldest batch that the database has not; undefined when none. */
  readonly oldestSealedAt: string | undefined;
  readonly unexported: number;
  /** Of segments that are kept for live sinks alone; not in `spoolBytes`. */
  readonly heldBytes: number;
  readonly failed: string | undefined;
}

export interface SpoolWorkerOptions {
  readonly spoolDir: string;
  readonly keyFile: string;
  readonly jsonlDir: string | undefined;
  readonly delivers: boolean;
  readonly maxSpoolBytes: number;
  readonly shareFromPercent: number | undefined;
  readonly mode: OutageMode;
  readonly files: FileHooks | undefined;
  /** The way to the worker of the live sinks, where there are some. */
  readonly live: { readonly port: MessagePort; readonly backlogBytes: number } | undefined;
}

export type ToSpool =
  | { readonly kind: 'append'; readonly chain: string; readonly items: readonly SpoolItem[] }
  | { readonly kind: 'pull'; readonly maxBytes: number }
  | { readonly kind: 'acknowledge'; readonly chain: string; readonly batch: number }
  | { readonly kind: 'refuse'; readonly chain: string }
  | { readonly kind: 'seal'; readonly final: boolean }
  | { readonly kind: 'close' };

export type FromSpool =
  | {
      readonly kind: 'ready';
      readonly state: SpoolState;
      readonly signer: string;
      readonly publicKey: string;
      /** The chain that this one continues; undefined when the spool held none. */
      readonly previous: PreviousChain | undefined;
      /** Why the old spool's chain could not be continued. */
      readonly broken: string | undefined;
      readonly lost: readonly LostStream[];
    }
  | { readonly kind: 'failedToOpen'; readonly code: string; readonly message: string }
  | {
      readonly kind: 'appended';
      readonly state: SpoolState;
      /** Sequence number per item; 0 when it was not kept. */
      readonly seqs: readonly number[];
      readonly outcomes: readonly number[];
      /** The items named another chain than the current one; nothing was written. */
      readonly stale?: boolean;
      readonly error?: string;
    }
  | {
      readonly kind: 'pulled';
      readonly outgoing: OutgoingBatches | undefined;
      readonly error?: string;
      /** The chain whose batch cannot be read back from the spool any more. */
      readonly damaged?: string | undefined;
      readonly state: SpoolState;
    }
  | {
      readonly kind: 'refused';
      readonly state: SpoolState;
      readonly previous: PreviousChain;
      readonly error?: string;
    }
  | { readonly kind: 'sealed'; readonly state: SpoolState; readonly error?: string }
  | { readonly kind: 'state'; readonly state: SpoolState }
  | { readonly kind: 'gap'; readonly dropped: number }
  | { readonly kind: 'warning'; readonly message: string }
  | { readonly kind: 'closed'; readonly state: SpoolState };
