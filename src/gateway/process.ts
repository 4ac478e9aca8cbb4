import type { GatewayConfig } from './config.ts';

/** Where a connection's applications connect to. */
export interface GatewayEntrance {
  readonly connection: string;
  /** `ADDR:PORT` actually bound. */
  readonly listen: string;
}

/** A running gateway. */
export interface GatewayProcess {
  /** `http://127.0.0.1:PORT` of /healthz, /readyz, /metrics and /status. */
  readonly statusUrl: string;
  readonly entrances: readonly GatewayEntrance[];
  /** Closes the listeners; resolves when the last stream ended or the drain deadline cut it. */
  drain(): Promise<void>;
  /** Applies what can change without a restart; says in the log what cannot. */
  reload(config: GatewayConfig): Promise<void>;
  /** Cuts what is still there and lets go of everything. Idempotent. */
  close(): Promise<void>;
}
