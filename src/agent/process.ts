import type { AgentConfig } from './config.ts';

/** A running agent. */
export interface AgentProcess {
  /** `http://127.0.0.1:PORT` of /healthz, /readyz, /metrics and /status. */
  readonly statusUrl: string;
  /** Takes no new stream; resolves when the last one ended or the drain deadline cut it. */
  drain(): Promise<void>;
  /** Applies what can change without a restart; says in the log what cannot. */
  reload(config: AgentConfig): Promise<void>;
  /** Takes up what comes from elsewhere than agent.yaml, which itself cannot be read. */
  reloadManaged(): Promise<void>;
  /** Cuts what is still there, flushes the audit log, lets go of everything. Idempotent. */
  close(): Promise<void>;
}
