import type { Clock, Logger } from '../../runtime/index.ts';
import type { ServerRevocation } from '../certificate/server-revocation.ts';
import type { NodeCarriers } from '../carrier/node-carriers.ts';
import type { Claim, LinkOffer, RelayNodeConfig, Side } from '../link/offer.ts';

/** A secret that can prove itself to the relay; identity's SAS key behind it. */
export interface CredentialSource {
  /** The holder's own name for it, unique within the process. */
  readonly handle: string;
  /** The connection it is used for; a login refuses a source that names none. */
  readonly connection: string | undefined;
  /** Name of the auth-rule; for messages. */
  readonly keyName: string;
  mint(nowMs: number): { readonly token: string; readonly expiresAtMs: number };
}

/** A credential that the relay has accepted. */
export interface AttachedCredential {
  readonly handle: string;
  /** The relay's name for it on this login. */
  readonly cred: string;
  readonly key_id: string;
  readonly principal: string;
  readonly auth_rule: string;
  readonly slot: 'primary' | 'secondary';
  readonly claims: readonly Claim[];
  readonly connection: string;
  readonly connection_id: string;
  readonly expires_at_ms: number;
}

export interface CredentialRefused {
  readonly handle: string;
  readonly status: number;
  /** Stable code of the refusal. */
  readonly code: string;
  readonly detail: string;
}

/** A connection as the relay describes it to those who serve or use it. */
export interface ConnectionInfo {
  readonly name: string;
  readonly id: string;
  readonly target: { readonly host: string; readonly port: number };
  readonly labels: Readonly<Record<string, string>>;
}

/** One live stream as its agent reports it; times in RFC 3339. Field names are wire format and command output. */
export interface StreamInfo {
  readonly stream_id: string;
  readonly link_id: string;
  readonly connection: string;
  readonly principal: string;
  readonly key_id: string;
  readonly agent: string;
  readonly gateway: string;
  readonly target: string;
  readonly opened_at: string;
  readonly bytes_up: number;
  readonly bytes_down: number;
  readonly policy_rule: string | null;
}

/** A stream that did not come about or was cut; agents and gateways report it, the relay merges by stream id. */
export interface StreamFailure {
  readonly connection: string;
  readonly stream_id: string;
  readonly reason: string;
  /** RFC 3339. */
  readonly at: string;
  readonly decision_id?: string | undefined;
  readonly reasons?: readonly { readonly code: string; readonly args?: unknown }[] | undefined;
  readonly detail?: string | undefined;
}

/** What an end tells its node now and then; every field may be absent. */
export interface HealthReport {
  /** Names of the nodes whose control database was heard to be well, by this process, in the last seconds. */
  readonly healthy_nodes?: readonly string[] | undefined;
  readonly streams?: number | undefined;
  readonly bundle_sha256?: string | undefined;
  readonly bundle_sequence?: number | undefined;
  /** New failures since the last report. */
  readonly failures?: readonly StreamFailure[] | undefined;
}

export interface RevokedNotice {
  /** The dead key; empty when it is an agent or a connection that is dead. */
  readonly key_id: string;
  /** The dead agent, or with `instance` the one dead installation of it. */
  readonly agent?: string | undefined;
  readonly instance?: string | undefined;
  /** The dead connection. */
  readonly connection_id?: string | undefined;
  /** The close reason for everything that stood on it. */
  readonly reason: string;
  readonly revocation_id: string;
  /** Told again, to an agent that logged in or did not answer. */
  readonly again?: boolean | undefined;
}

/** What this process heard happen; handlers must not throw. Absent ones ignore the event. */
export interface LoginHandlers {
  /** The login stands: at least the node answered `hello`. */
  onUp?(): void;
  /** The control link is gone or could not be made; data links live on. */
  onDown?(cause: LoginDown): void;
  onAttached?(credential: AttachedCredential): void;
  onCredentialRefused?(refused: CredentialRefused): void;
  onConnection?(connection: ConnectionInfo): void;
  onConnectionGone?(name: string): void;
  /** Agent only: somebody wants a link; open it with `openDataLink` or `reportLinkFailed`. */
  onOffer?(offer: LinkOffer): void;
  /** Cut everything of that key, agent or connection; the counts go back to the relay. Null: do not confirm, tell it again. */
  onRevoked?(notice: RevokedNotice): { readonly links: number; readonly streams: number } | null | undefined;
  onLinkClosed?(closed: { readonly link_id: string; readonly reason: string }): void;
  onStreamsQuery?(query: { readonly connection?: string | undefined }): Promise<readonly StreamInfo[]>;
  /** True when the stream was here. */
  onStreamClose?(request: { readonly stream_id: string; readonly reason: string }): boolean;
  /** The node stops: open links elsewhere; milliseconds until it cuts. */
  onGoAway?(deadlineMs: number): void;
  /** Whether the node hears its control database; told at `hello`, on change and every 10 s. */
  onNodeHealth?(healthy: boolean): void;
  /** Asked every 10 s and sent to the node. */
  health?(): HealthReport;
}

export interface LoginDown {
  /** HTTP status when the handshake was refused. */
  readonly status?: number | undefined;
  readonly code: string;
  readonly detail: string;
  /** When the next try is made. */
  readonly retryInMs: number;
}

/** How a login stands. */
export type LoginState =
  | { readonly kind: 'connecting'; readonly node: string; readonly down: LoginDown | undefined }
  | {
      readonly kind: 'up';
      readonly node: string;
      /** The node's port that it came up by. */
      readonly port: number;
      readonly loginId: string;
      readonly sinceMs: number;
      /** Last measured round trip of the control link, milliseconds. */
      readonly rttMs: number | undefined;
      readonly nodeHealthy: boolean;
      readonly credentials: readonly AttachedCredential[];
    }
  | { readonly kind: 'closed'; readonly node: string };

export interface NodeLoginOptions {
  readonly node: RelayNodeConfig;
  readonly role: Side;
  readonly name: string;
  /** Public id of this process's run. */
  readonly instance: string;
  /** Known to this process and the relay: lets a reconnect replace the dead login, and nobody else. */
  readonly instanceSecret: string;
  readonly build: string;
  readonly namespace: string;
  /** PEM of the authorities to trust instead of the system's. */
  readonly ca?: string | undefined;
  /** The file that `ca` is of, for messages. */
  readonly caFile?: string | undefined;
  /** Whether the relay's certificate is revoked; undefined: not asked. */
  readonly revocation?: ServerRevocation | undefined;
  /** What is known of the ways to the node; undefined: its ports in order. */
  readonly carriers?: NodeCarriers | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly credentials: readonly CredentialSource[];
  readonly handlers: LoginHandlers;
}

export interface LinkRequest {
  /** `AttachedCredential.cred`. */
  readonly cred: string;
  readonly connection: string;
  /** This side's link certificate. */
  readonly spki: string;
  /** Agent instances not wanted. */
  readonly exclude: readonly string[];
  /** The one agent instance wanted. */
  readonly want?: string | undefined;
}

export interface LinkFailedReport {
  readonly link_id: string;
  readonly step: string;
  readonly side: Side;
  readonly reason: string;
  readonly detail?: string | undefined;
}
