import type { Clock, CloseReason, Logger } from '../runtime/index.ts';

/** Who dialled: an application's stream, or the agent by itself. */
export type DialledFor = 'stream' | 'probe';

/** What the latest dial of a connection's target came to. */
export interface TargetHealthStatus {
  readonly connection: string;
  /** `unknown`: nobody has dialled it since the agent started. */
  readonly state: 'reachable' | 'unreachable' | 'unknown';
  /** When it came to be so. */
  readonly since: string | null;
  readonly checked_at: string | null;
  readonly checked_by: DialledFor | null;
  /** The one that took the latest connection. */
  readonly address: string | null;
  readonly connect_ms: number | null;
  /** Why not. */
  readonly reason: CloseReason | null;
  readonly detail: string | null;
}

interface Known {
  readonly isReachable: boolean;
  readonly sinceMs: number;
  readonly checkedAtMs: number;
  readonly checkedMonotonicMs: number;
  readonly by: DialledFor;
  readonly address?: string;
  readonly connectMs?: number;
  readonly reason?: CloseReason;
  readonly detail?: string | undefined;
}

/** Ends of a dial that say something about the target; those of guard and managed settings do not. */
const OF_THE_TARGET: ReadonlySet<CloseReason> = new Set<CloseReason>([
  'target_unreachable',
  'target_timeout',
  'dns_failure',
]);

const instant = (ms: number | undefined): string | null =>
  ms === undefined ? null : new Date(ms).toISOString();

/** Whether targets take connections, by the dials of streams and probes. One line of log for each change. */
export class TargetHealth {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #known = new Map<string, Known>();

  constructor(clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
  }

  reached(connection: string, by: DialledFor, address: string, connectMs: number): void {
    this.#set(connection, { isReachable: true, by, address, connectMs: Math.round(connectMs) });
  }

  failed(connection: string, by: DialledFor, reason: CloseReason, detail: string | undefined): void {
    if (OF_THE_TARGET.has(reason)) this.#set(connection, { isReachable: false, by, reason, detail });
  }

  /** How long ago anybody dialled it, milliseconds; undefined when nobody has. */
  ageMs(connection: string): number | undefined {
    const known = this.#known.get(connection);
    return known && this.#clock.monotonicMs() - known.checkedMonotonicMs;
  }

  status(connections: readonly string[]): TargetHealthStatus[] {
    return connections.map((connection) => {
      const known = this.#known.get(connection);
      return {
        connection,
        state: known === undefined ? 'unknown' : known.isReachable ? 'reachable' : 'unreachable',
        since: instant(known?.sinceMs),
        checked_at: instant(known?.checkedAtMs),
        checked_by: known?.by ?? null,
        address: known?.address ?? null,
        connect_ms: known?.connectMs ?? null,
        reason: known?.reason ?? null,
        detail: known?.detail ?? null,
      };
    });
  }

  #set(
    connection: string,
    found: Pick<Known, 'isReachable' | 'by' | 'address' | 'connectMs' | 'reason' | 'detail'>,
  ): void {
    const before = this.#known.get(connection);
    const nowMs = this.#clock.nowMs();
    const isSame = before?.isReachable === found.isReachable;
    this.#known.set(connection, {
      ...found,
      sinceMs: isSame ? before.sinceMs : nowMs,
      checkedAtMs: nowMs,
      checkedMonotonicMs: this.#clock.monotonicMs(),
    });
    if (isSame || (before === undefined && found.isReachable)) return;
    const { reason, detail, address } = found;
    if (found.isReachable) this.#logger.info({ connection, address }, 'the target takes connections again');
    else this.#logger.warn({ connection, reason, detail }, 'the target does not take connections');
  }
}
