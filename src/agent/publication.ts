import type { Decision } from '../policy/index.ts';
import type { AttachedCredential, ConnectionInfo, PartyKey } from '../protocol/index.ts';
import type { WheelEntry } from '../runtime/index.ts';

/** Where one connection under one credential at one node stands. */
export type PublicationState = 'deciding' | 'published' | 'denied' | 'failed' | 'gone';

/** One connection, as one credential may serve it at one relay node. */
export interface Publication {
  readonly node: string;
  readonly handle: string;
  /** The credential as the node accepted it; it is kept while the control link is away. */
  credential: AttachedCredential;
  connection: ConnectionInfo | undefined;
  state: PublicationState;
  /** True while the relay node has it: a published connection is not offered while the control link is away. */
  isOffered: boolean;
  /** Why not, in words. */
  detail: string | undefined;
  decision: Decision | undefined;
  decisionId: string | undefined;
  publishedMs: number;
  /** What decides whether a decision is news worth an event. */
  evidence: string;
  isRunning: boolean;
  isAgain: boolean;
  next: WheelEntry | undefined;
}

/** A publication as `/status` shows it. */
export interface PublicationStatus {
  readonly connection: string;
  readonly node: string;
  readonly principal: string;
  readonly state: PublicationState;
  readonly offered: boolean;
  readonly target: string | null;
  readonly rule: string | null;
  readonly decision_id: string | null;
  readonly detail: string | null;
}

export const listenerKey = (credential: AttachedCredential): PartyKey => ({
  kind: 'sas',
  id: credential.key_id,
  principal: credential.principal,
  auth_rule: credential.auth_rule,
  slot: credential.slot,
  claims: credential.claims,
  proved_by: 'relay',
});

export const publicationStatus = (publication: Publication): PublicationStatus => {
  const { connection, credential, decision } = publication;
  return {
    connection: credential.connection,
    node: publication.node,
    principal: credential.principal,
    state: publication.state,
    offered: publication.isOffered,
    target: connection === undefined ? null : `${connection.target.host}:${connection.target.port}`,
    rule: decision?.rule ?? null,
    decision_id: publication.decisionId ?? null,
    detail: publication.detail ?? null,
  };
};
