import type { Clock, Logger } from '../runtime/index.ts';
import type { CheckpointHealth } from './checkpoint/desk.ts';
import type { CheckpointPlaces } from './checkpoint/settings.ts';
import type { AuditEventInput, Origin } from './event/event.ts';
import type { SinkStatus } from './sink/messages.ts';
import type { SinkSettings } from './sink/sink-settings.ts';

/** What the spool does beyond its quota: refuse new streams, or drop close events and say so. */
export type OutageMode = 'enforced' | 'best_effort';

export interface AuditHealth {
  readonly chain_id: string;
  /** Last sequence number on disk in this chain; 0 before the first. */
  readonly last_seq: number;
  readonly spool_bytes: number;
  readonly max_spool_bytes: number;
  /** Sealed batches that the database has not acknowledged. */
  readonly unacknowledged_batches: number;
  /** Age of the oldest of those, in seconds; 0 when there is none. */
  readonly oldest_unacknowledged_seconds: number;
  /** Close events dropped in `best_effort` since the process started. */
  readonly dropped: number;
  /** Decisions refused since the process started because their principal had used up its share of the quota. */
  readonly share_refusals: number;
  /** Principals that are refused now for that, the largest first, at most ten. */
  readonly over_share: readonly { readonly principal: string; readonly bytes: number }[];
  /** Events handed to `note` that could not be kept. */
  readonly note_failures: number;
  readonly spool: 'ok' | 'failed' | 'full' | 'closed';
  readonly database: 'none' | 'connecting' | 'ok' | 'failing';
  readonly database_error?: string;
  readonly mode: OutageMode;
  /** Bytes in the spool that are kept for live sinks alone; `spool_bytes` does not count them. */
  readonly sink_held_bytes: number;
  /** Live sinks, each as it last told. */
  readonly sinks: readonly SinkStatus[];
  /** Chains that the database refused (fork, gap, other owner); their segments are kept aside. */
  readonly refused_chains: number;
  /** Of each place of checkpoints; absent when none are made. */
  readonly checkpoints?: readonly CheckpointHealth[];
}

export interface Recorded {
  readonly event_id: string;
  readonly seq: number;
}

/** One process's audit chain: durable before `record` resolves, delivered to the sinks afterwards. */
export interface AuditLog {
  /** The chain that events go to now; changes only when the database refuses the chain. */
  readonly chainId: string;
  /** Short id of the audit key, as in seals and in the trust file. */
  readonly signer: string;
  /**
   * Resolves after the event's bytes are on disk (fdatasync returned).
   * @throws AppError ERR_AUDIT_UNAVAILABLE when they could not be put there, ERR_AUDIT_OVER_SHARE when the principal's
   *   share of the quota is used up; the event did not happen then.
   */
  record(event: AuditEventInput): Promise<Recorded>;
  /** The same path with nobody waiting; failures are logged and counted. */
  note(event: AuditEventInput): void;
  /** Whether a decision recorded now would be kept. */
  available(): boolean;
  health(): AuditHealth;
  /** Seals what is there and waits until database and JSONL files have it, at most `deadlineMs`; false when they have not. */
  flush(deadlineMs: number): Promise<boolean>;
  /** Seals the chain's final batch, gives the database and the live sinks a moment, and ends. Idempotent. */
  close(): Promise<void>;
}

/** Hooks into the spool's file layer, for tests that prove order and inject faults. */
export interface FileHooks {
  /** Every file operation is appended here as a JSON line with monotonic nanosecond stamps. */
  readonly traceFile?: string;
  /** While this file exists, the operations named in it (`writev`, `fdatasync`, `open`) fail with EIO. */
  readonly faultFile?: string;
}

export interface AuditLogOptions {
  /** Made when absent (0700). One process at a time. */
  readonly spoolDir: string;
  /** Ed25519 private key, PKCS #8 PEM, 0600; made when absent. */
  readonly keyFile: string;
  readonly origin: Origin;
  /** Without it the spool keeps everything up to its quota. */
  readonly database?: { readonly url: string } | undefined;
  readonly jsonlDir?: string | undefined;
  /** Syslog and OTLP; what they are given frees no spool, and nothing waits for them. */
  readonly sinks?: SinkSettings | undefined;
  /** Whose requests for retention to record; without it this writer records none. */
  readonly trustFile?: string | undefined;
  /** Where to write checkpoints, and how often; without it none are made. */
  readonly checkpoints?: CheckpointPlaces | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Default 1 GiB. */
  readonly maxSpoolBytes?: number | undefined;
  /**
   * Of the quota, 0–100, default 75: from here on, in `enforced`, decisions of a principal that holds more than an equal
   * share of the quota are refused. 100: never.
   */
  readonly shareFromPercent?: number | undefined;
  /** Default `enforced`. */
  readonly mode?: OutageMode | undefined;
  readonly files?: FileHooks | undefined;
}
