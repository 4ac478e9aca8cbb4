import type { AuditEventInput } from './event/event.ts';
import type { RecentHeads } from './recent-heads.ts';
import type { SpoolState } from './spool/messages.ts';

export interface HeartbeatFacts {
  readonly uptimeMs: number;
  /** Close events dropped since the process started. */
  readonly dropped: number;
  readonly state: SpoolState | undefined;
  /** Heads of other chains; undefined when the database could not be asked. */
  readonly others: RecentHeads | undefined;
}

/** The heartbeat of a chain: how its spool stands, and the heads that it saw. */
export const heartbeatOf = ({ uptimeMs, dropped, state, others }: HeartbeatFacts): AuditEventInput => {
  const head =
    state?.lastSeal === undefined || state.lastSeal === null
      ? undefined
      : { chain: state.chain, batch: state.lastBatch, seal: state.lastSeal };
  return {
    type: 'audit.heartbeat',
    subject: {},
    data: {
      uptime_ms: Math.round(uptimeMs),
      spool_bytes: state?.spoolBytes ?? 0,
      unacknowledged: state?.unacknowledged ?? 0,
      dropped,
      head,
      ...(others === undefined ? {} : { heads: [...others.heads], heads_omitted: others.omitted }),
    },
  };
};
