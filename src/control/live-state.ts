import type { CloseReason } from '../runtime/index.ts';

/** A login as the management API shows it. */
export interface LoginInfo {
  readonly login_id: string;
  readonly node: string;
  readonly role: 'agent' | 'gateway';
  readonly name: string;
  readonly instance: string;
  /** Observed address; null when a proxy hid it. */
  readonly address: string | null;
  /** RFC 3339, UTC. */
  readonly opened_at: string;
  /** `down` while the control link is lost and the login kept for its instance. */
  readonly state: 'up' | 'down';
  readonly build: string | null;
  readonly bundle_sha256: string | null;
  readonly credentials: readonly {
    readonly connection: string | null;
    readonly key_id: string;
    readonly principal: string;
    readonly expires_at: string;
  }[];
  /** Connections that an agent publishes on this login. */
  readonly published: readonly string[];
}

/** A data link that this node joined. */
export interface LinkInfo {
  readonly link_id: string;
  readonly node: string;
  readonly connection: string;
  readonly carrier: string;
  readonly state: 'offered' | 'half' | 'joined';
  readonly gateway: string;
  readonly agent: string;
  readonly sender_principal: string;
  readonly sender_key_id: string;
  readonly listener_principal: string;
  readonly listener_key_id: string;
  readonly opened_at: string;
  /** Raw bytes, gateway to agent. */
  readonly bytes_up: number;
  /** Raw bytes, agent to gateway. */
  readonly bytes_down: number;
}

/** An open stream as its agent reports it; the fields of `stream list --json`. */
export interface StreamInfo {
  readonly stream_id: string;
  readonly connection: string;
  readonly principal: string;
  readonly key_id: string;
  readonly agent: string;
  readonly gateway: string;
  /** `host:port` dialled. */
  readonly target: string;
  readonly opened_at: string;
  readonly bytes_up: number;
  readonly bytes_down: number;
  readonly policy_rule: string | null;
}

/** The last failures of a connection, newest first, for `sallyport why`. */
export interface StreamFailure {
  readonly at: string;
  readonly connection: string;
  /** Where it failed. */
  readonly stage: 'login' | 'link' | 'stream';
  readonly code: CloseReason;
  /** One lower-case sentence without secrets. */
  readonly detail: string;
  readonly stream_id: string | null;
  readonly decision_id: string | null;
  readonly principal: string | null;
  readonly gateway: string | null;
  readonly agent: string | null;
  /** Reason codes of policy, when it was a policy denial. */
  readonly reasons: readonly string[];
}

/** What only the running relay node knows; it implements this, the management API asks it. */
export interface LiveState {
  logins(): readonly LoginInfo[];
  links(): readonly LinkInfo[];
  /** Asked of the agents now; resolves within 1 s with what was answered by then. */
  streams(): Promise<readonly StreamInfo[]>;
  /** At most the last 20, newest first. */
  lastFailures(connection: string): readonly StreamFailure[];
  /** Tells the agent to close it; false when no connected agent has the stream. */
  closeStream(streamId: string, reason: CloseReason): Promise<boolean>;
}
