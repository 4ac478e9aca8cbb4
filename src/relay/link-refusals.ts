import type { AuditLog } from '../audit/index.ts';
import { type Clock, isCloseReason, type Timer } from '../runtime/index.ts';
import type { Failures } from './failures.ts';
import type { Login } from './login.ts';

/** The same refusal of the same gateway within this time is one event. */
export const REFUSAL_QUIET_MS = 10_000;
const MAX_KINDS = 4_096;

export interface LinkRefusalsOptions {
  readonly audit: Pick<AuditLog, 'note'>;
  readonly failures: Failures;
  readonly namespace: string;
  readonly node: string;
  readonly clock: Clock;
}

/** Link requests that were refused: recorded once per kind and 10 s, and kept for `why`. */
export class LinkRefusals {
  readonly #options: LinkRefusalsOptions;
  readonly #recent = new Set<string>();
  readonly #timer: Timer;

  constructor(options: LinkRefusalsOptions) {
    this.#options = options;
    this.#timer = options.clock.every(REFUSAL_QUIET_MS, () => this.#recent.clear()).unref();
  }

  add(login: Login, connection: string, code: string, detail: string): void {
    const kind = JSON.stringify([login.id, connection, code]);
    if (this.#recent.has(kind) || this.#recent.size >= MAX_KINDS) return;
    this.#recent.add(kind);
    const { audit, failures, namespace, node, clock } = this.#options;
    const verified = login.verifiedFor(connection);
    failures.add({
      at: new Date(clock.nowMs()).toISOString(),
      connection,
      stage: 'link',
      code: isCloseReason(code) ? code : 'internal',
      detail,
      stream_id: null,
      decision_id: null,
      principal: verified?.principal ?? null,
      gateway: login.name,
      agent: null,
      reasons: [],
    });
    audit.note({
      type: 'link.refused',
      subject: {
        namespace,
        relay: node,
        gateway: login.name,
        connection,
        connection_id: verified?.connection_id,
        principal: verified?.principal,
        key_id: verified?.key_id,
        login_id: login.id,
        source_addr: login.address,
      },
      data: { side: 'relay', node, reason: code, detail },
    });
  }

  close(): void {
    this.#timer.cancel();
  }
}
