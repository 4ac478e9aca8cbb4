import type { Claim, RevocationSubject, Role } from '../identity/index.ts';

/** The static host and port of a connection. */
export interface Target {
  readonly host: string;
  readonly port: number;
}

export interface ConnectionRecord {
  /** UUIDv7; a connection deleted and made again has another. */
  readonly id: string;
  readonly name: string;
  readonly target: Target;
  readonly labels: Readonly<Record<string, string>>;
  /** Rises by one with each change. */
  readonly version: number;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export interface AuthRuleRecord {
  readonly id: string;
  /** Undefined: the rule is the namespace's. */
  readonly connection: string | undefined;
  readonly name: string;
  /** As granted, not expanded. */
  readonly claims: readonly Claim[];
  /** Rises by one with each rotation. */
  readonly version: number;
  readonly createdAt: Date;
}

/** An auth-rule and the id of its connection. */
export interface StoredAuthRule extends AuthRuleRecord {
  readonly connectionId: string | undefined;
}

export type KeySlot = 'primary' | 'secondary';
/** `retiring`: replaced, good until `retireAt`. */
export type KeyState = 'active' | 'retiring' | 'revoked';

/** A key without its text. */
export interface KeyRecord {
  readonly keyId: string;
  readonly connection: string | undefined;
  readonly authRule: string;
  readonly slot: KeySlot;
  readonly claims: readonly Claim[];
  readonly state: KeyState;
  readonly createdAt: Date;
  readonly retireAt: Date | undefined;
  readonly lastUsedAt: Date | undefined;
}

/** A key with its text: only from create, rotate and disclose. A secret. */
export interface DisclosedKey {
  readonly keyId: string;
  readonly connection: string | undefined;
  readonly authRule: string;
  readonly slot: KeySlot;
  readonly key: string;
  readonly connectionString: string;
}

export interface TokenRecord {
  readonly id: string;
  readonly label: string;
  readonly role: Role;
  /** A code: good for one exchange into a token, nothing else. */
  readonly oneTime: boolean;
  readonly createdAt: Date;
  readonly createdBy: string;
  readonly expiresAt: Date | undefined;
  readonly revokedAt: Date | undefined;
  readonly lastUsedAt: Date | undefined;
}

/** Why something is dead, in the order of the documentation; `identity_revoked` is an agent. */
export const REVOCATION_KINDS = [
  'key_revoked',
  'key_rotated',
  'auth_rule_removed',
  'connection_removed',
  'identity_revoked',
] as const;

/** Also the close reason of what was carried. */
export type RevocationKind = (typeof REVOCATION_KINDS)[number];

/** One dead key, agent or connection. Revocations are never taken back. */
export interface Revocation extends RevocationSubject {
  readonly revocation_id: string;
  readonly kind: RevocationKind;
  /** What the operator wrote; empty when the kind says it all. */
  readonly reason: string;
}

/** A revocation with all that its row holds, times as ISO 8601 in UTC. */
export interface StoredRevocation extends Revocation {
  readonly connection: string | null;
  /** Of the dead key, as its slot. */
  readonly auth_rule: string | null;
  readonly slot: KeySlot | null;
  readonly actor: string;
  readonly created_at: string;
  readonly effective_at: string;
}

/** What revoking cut on one node. `streams` is null while no agent has answered. */
export interface Enforcement {
  readonly links: number;
  readonly streams: number | null;
}

/** What an enforcement took, and who on that node has not confirmed. */
export interface Acknowledgement extends Enforcement {
  /** From learning of it to done, milliseconds. */
  readonly ms: number;
  /** Agents of this node that were told and have not answered. */
  readonly pendingAgents?: readonly { readonly name: string; readonly since: string }[];
}
