import type { CloseReason } from '../../runtime/index.ts';

/** What a SAS key may do. */
export type Claim = 'Listen' | 'Send' | 'Manage';

/** One credential as policy and audit see it; never holds the key itself. */
export interface PartyKey {
  readonly kind: 'sas';
  /** Public key id, `k_` and 20 hex digits. */
  readonly id: string;
  /** Who the credential stands for, stable over rotation. */
  readonly principal: string;
  readonly auth_rule: string;
  readonly slot: 'primary' | 'secondary';
  readonly claims: readonly Claim[];
  /** Who vouches for it: with a SAS key always the relay. */
  readonly proved_by: 'relay' | 'agent';
}

/** How the other end of a data link will be known. */
export interface LinkPeer {
  /** SHA-256 of its SPKI, 64 lower-case hex digits. */
  readonly spki: string;
  readonly name: string;
  readonly instance: string;
}

/** A rendezvous as one side is told of it: each side has its own `token`, everything else is the same. */
export interface LinkOffer {
  /** UUIDv7, the same in both sides' audit. */
  readonly link_id: string;
  /** This side's single-use token, 32 hex digits, good for 15 s. It is no credential. */
  readonly token: string;
  /** The node's public name: to be found in one's own configuration. */
  readonly node: string;
  readonly connection: string;
  readonly connection_id: string;
  readonly peer: LinkPeer;
  readonly sender: PartyKey;
  readonly listener: PartyKey;
  /** Name of the gateway. */
  readonly gateway: string;
  /** Name of the agent. */
  readonly agent: string;
  /** The gateway's address as the relay's control link sees it; only to the agent. */
  readonly source_address?: string | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

/** The answer to a link request that cannot be served; a value, not an error. */
export interface LinkRefusal {
  readonly refused: true;
  readonly code: CloseReason;
  readonly detail: string;
  readonly retry_after_ms?: number | undefined;
}

/** One relay node as configuration names it; offers carry names only, never addresses. */
export interface RelayNodeConfig {
  /** Must equal the node name that offers carry. */
  readonly host: string;
  /** For control links: one, or several, tried in this order. */
  readonly control_port: number | readonly number[];
  /** For data links over TCP, tried in this order. */
  readonly data_ports: readonly number[];
  /** For data links over a WebSocket; absent: 443 if it is among the others, else the last for control links. */
  readonly websocket_port?: number | undefined;
}

export type Side = 'gateway' | 'agent';

export const otherSide = (side: Side): Side => (side === 'gateway' ? 'agent' : 'gateway');
