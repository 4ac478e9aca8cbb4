import type { Clock, Logger } from '../runtime/index.ts';
import type { AuditEventInput, Origin } from './event/event.ts';

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
  /** Events handed to `note` that could not be kept. */
  readonly note_failures: number;
  readonly spool: 'ok' | 'failed' | 'full' | 'closed';
  readonly database: 'none' | 'connecting' | 'ok' | 'failing';
  readonly database_error?: string;
  readonly mode: OutageMode;
  /** Chains that the database refused (fork, gap, other owner); their segments are kept aside. */
  readonly refused_chains: number;
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
   * @throws AppError ERR_AUDIT_UNAVAILABLE when they could not be put there; the event did not happen then.
   */
  record(event: AuditEventInput): Promise<Recorded>;
  /** The same path with nobody waiting; failures are logged and counted. */
  note(event: AuditEventInput): void;
  /** Whether a decision recorded now would be kept. */
  available(): boolean;
  health(): AuditHealth;
  /** Seals what is there and waits until the sinks have it, at most `deadlineMs`; false when they have not. */
  flush(deadlineMs: number): Promise<boolean>;
  /** Seals the chain's final batch, gives the database a moment, and ends. Idempotent. */
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
  readonly clock: Clock;
  readonly logger: Logger;
  /** Default 1 GiB. */
  readonly maxSpoolBytes?: number | undefined;
  /** Default `enforced`. */
  readonly mode?: OutageMode | undefined;
  readonly files?: FileHooks | undefined;
}
