import type { Span } from '../spool/chain-state.ts';
import type { SinkSettings } from './sink-settings.ts';

export const SINK_NAMES = ['syslog', 'otlp'] as const;
export type SinkName = (typeof SINK_NAMES)[number];

/** Events under one seal, and where they are in the spool. */
export interface SealedRun {
  readonly chain: string;
  readonly first: number;
  readonly last: number;
  readonly spans: readonly Span[];
}

/** From the spool's worker to that of the sinks. */
export type SpoolToSinks =
  | { readonly kind: 'sealed'; readonly runs: readonly SealedRun[] }
  /** Segments up to this one are no longer kept for sinks. */
  | { readonly kind: 'released'; readonly segment: number }
  /** The last chain is ended and told. */
  | { readonly kind: 'final' };

/** From the sinks' worker to that of the spool: no sink needs a segment before this one. */
export interface SinksToSpool {
  readonly wantedFrom: number;
}

/** How a sink fares. Counts are since the process started. */
export interface SinkStatus {
  readonly name: SinkName;
  /** `idle`: nothing was sent yet. */
  readonly state: 'idle' | 'ok' | 'failing' | 'ended';
  readonly error?: string | undefined;
  /** Events that the receiver has taken. */
  readonly sent: number;
  /** Attempts that came to nothing; their events are sent again. */
  readonly failed: number;
  /** Events that the sink will not get: the spool gave them up, or the receiver refuses them for what they are. */
  readonly dropped: number;
  /** Events counted as sent although the receiver did not confirm them. */
  readonly unconfirmed: number;
  readonly backlog_events: number;
  readonly backlog_bytes: number;
}

export interface SinkWorkerOptions {
  readonly spoolDir: string;
  readonly settings: SinkSettings;
  /** What a receiver is told of the machine. */
  readonly hostName: string;
}

/** Hand over what is there, at most so long, and end. */
export interface ToSinks {
  readonly deadlineMs: number;
}

export type FromSinks =
  | { readonly kind: 'status'; readonly sinks: readonly SinkStatus[] }
  | {
      readonly kind: 'log';
      readonly level: 'info' | 'warn' | 'error';
      readonly fields: Readonly<Record<string, string | number>>;
      readonly text: string;
    }
  | { readonly kind: 'closed' };
