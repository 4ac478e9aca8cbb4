import type { Clock, Timer } from '../runtime/index.ts';
import type { AuditLog } from './audit-log.ts';

/** Failures of one kind within this time become one event with a count. */
export const COALESCE_MS = 10_000;
/** Kinds counted apart at one time; beyond it they share one. */
const MAX_KINDS = 1_024;

export interface AuthFailure {
  /** Auth-rule that a SAS token named. */
  readonly claimedKeyName?: string | undefined;
  /** Public id of a management token; never its text. */
  readonly claimedTokenId?: string | undefined;
  readonly code: string;
  readonly address: string | undefined;
  readonly connection?: string | undefined;
  readonly detail: string;
}

/** Records failed authentications: the first of a kind at once, the rest of its 10 s as one event. */
export class AuthFailures {
  readonly #audit: Pick<AuditLog, 'note'>;
  readonly #subject: { readonly namespace: string; readonly relay: string };
  readonly #counts = new Map<string, { readonly failure: AuthFailure; count: number }>();
  readonly #timer: Timer;

  constructor(
    audit: Pick<AuditLog, 'note'>,
    subject: { readonly namespace: string; readonly relay: string },
    clock: Clock,
  ) {
    this.#audit = audit;
    this.#subject = subject;
    this.#timer = clock.every(COALESCE_MS, () => this.flush()).unref();
  }

  add(failure: AuthFailure): void {
    const { claimedKeyName, claimedTokenId, code, address, connection } = failure;
    const exact = JSON.stringify([claimedKeyName, claimedTokenId, code, address, connection]);
    const isKnown = this.#counts.has(exact);
    const key = isKnown || this.#counts.size < MAX_KINDS ? exact : 'others';
    const entry = this.#counts.get(key);
    if (entry !== undefined) {
      entry.count += 1;
      return;
    }
    const kept =
      key === 'others'
        ? { ...failure, claimedKeyName: undefined, claimedTokenId: undefined, address: undefined }
        : failure;
    this.#counts.set(key, { failure: kept, count: 0 });
    this.#note(kept, 1);
  }

  /** Writes the counts gathered since the first of each kind. */
  flush(): void {
    for (const { failure, count } of this.#counts.values()) if (count > 0) this.#note(failure, count);
    this.#counts.clear();
  }

  close(): void {
    this.#timer.cancel();
    this.flush();
  }

  #note(failure: AuthFailure, count: number): void {
    const { claimedKeyName, claimedTokenId, code, address, connection, detail } = failure;
    this.#audit.note({
      type: 'auth.failed',
      subject: { ...this.#subject, connection, source_addr: address },
      data: {
        claimed_key_name: claimedKeyName,
        claimed_token_id: claimedTokenId,
        code,
        address,
        detail,
        count,
      },
    });
  }
}
