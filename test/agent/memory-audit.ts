import type { AuditEventInput, AuditHealth, AuditLog } from '../../src/audit/index.ts';
import { AppError } from '../../src/runtime/index.ts';

type Matches = (event: AuditEventInput) => boolean;

/** An audit log in memory, for tests about what is recorded and when; the real one has its own tests. */
export class MemoryAudit implements AuditLog {
  readonly chainId = 'memory';
  readonly signer = 'memory';
  readonly events: AuditEventInput[] = [];
  isAvailable = true;
  #waiting: { matches: Matches; resolve: (event: AuditEventInput) => void }[] = [];

  async record(event: AuditEventInput): Promise<{ event_id: string; seq: number }> {
    await new Promise((resolve) => setImmediate(resolve));
    if (!this.isAvailable) throw new AppError('ERR_AUDIT_UNAVAILABLE', 'told to fail');
    this.note(event);
    return { event_id: `e${this.events.length}`, seq: this.events.length };
  }

  note(event: AuditEventInput): void {
    this.events.push(event);
    for (const { matches, resolve } of this.#waiting) if (matches(event)) resolve(event);
  }

  of<T extends AuditEventInput['type']>(type: T): Extract<AuditEventInput, { type: T }>[] {
    return this.events.filter((event) => event.type === type) as Extract<AuditEventInput, { type: T }>[];
  }

  /** The first event, past or to come, of that type that matches. */
  async until<T extends AuditEventInput['type']>(
    type: T,
    matches: (event: Extract<AuditEventInput, { type: T }>) => boolean = () => true,
  ): Promise<Extract<AuditEventInput, { type: T }>> {
    const isIt: Matches = (event) => event.type === type && matches(event as never);
    const found =
      this.events.find(isIt) ??
      (await new Promise((resolve) => this.#waiting.push({ matches: isIt, resolve })));
    return found as Extract<AuditEventInput, { type: T }>;
  }

  available(): boolean {
    return this.isAvailable;
  }

  health(): AuditHealth {
    return {
      chain_id: 'memory',
      last_seq: this.events.length,
      spool_bytes: 0,
      max_spool_bytes: 1,
      unacknowledged_batches: 0,
      oldest_unacknowledged_seconds: 0,
      dropped: 0,
      share_refusals: 0,
      over_share: [],
      note_failures: 0,
      spool: this.isAvailable ? 'ok' : 'failed',
      database: 'none',
      mode: 'enforced',
      sink_held_bytes: 0,
      sinks: [],
      refused_chains: 0,
    };
  }

  flush(): Promise<boolean> {
    return Promise.resolve(true);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
