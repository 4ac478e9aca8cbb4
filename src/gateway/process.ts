import type { EntranceView } from './entrance/entrances.ts';
import type { GatewayConfig } from './config.ts';

/** A running gateway. */
export interface GatewayProcess {
  /** `http://127.0.0.1:PORT` of /healthz, /readyz, /metrics and /status. */
  readonly statusUrl: string;
  /** Every way in for applications. */
  readonly entrances: readonly EntranceView[];
  /** Closes the listeners; resolves when the last stream ended or the drain deadline cut it. */
  drain(): Promise<void>;
  /** Applies what can change without a restart; says in the log what cannot. */
  reload(config: GatewayConfig): Promise<void>;
  /** Cuts what is still there and lets go of everything. Idempotent. */
  close(): Promise<void>;
}
