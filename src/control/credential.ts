import type { Claim } from '../identity/index.ts';
import type { KeySlot } from './records.ts';

/** A credential that was verified; the caller re-checks revocation in the tick that uses it. */
export interface VerifiedCredential {
  readonly ok: true;
  readonly kind: 'sas';
  readonly key_id: string;
  /** The auth-rule's name, or `namespace/NAME`. */
  readonly principal: string;
  readonly auth_rule: string;
  readonly slot: KeySlot;
  /** Expanded: Manage implies Listen and Send. */
  readonly claims: readonly Claim[];
  readonly expires_at_ms: number;
  readonly connection_id: string;
  readonly connection: string;
  /** Whose auth-rule it is. */
  readonly scope: 'connection' | 'namespace';
}

export type AdmissionCode =
  | 'token_malformed'
  | 'token_resource'
  | 'token_expired'
  | 'not_authorized'
  | 'key_revoked'
  | 'key_rotated'
  | 'claim_missing'
  | 'connection_unknown'
  | 'unavailable';

/** Why a credential was refused; the same for every wrong key, so that it teaches nothing. */
export interface AdmissionRefusal {
  readonly ok: false;
  readonly status: 401 | 403 | 404 | 503;
  readonly code: AdmissionCode;
  /** One lower-case sentence, without secrets. */
  readonly detail: string;
  /** The auth-rule that the token named, cleaned, when it could be read. */
  readonly claimed_key_name: string | undefined;
}

export interface VerifyRequest {
  readonly connection: string;
  readonly claim: 'Listen' | 'Send';
  /** Set on `renew`: the key of the established login. Gives 5 min grace, and no other key may answer. */
  readonly renewalOfKeyId?: string;
  /** Observed address, kept with the key's last use. */
  readonly source?: string;
}

/** Verifies credentials from memory where it can. */
export interface Admission {
  verify(tokenText: string, request: VerifyRequest): Promise<VerifiedCredential | AdmissionRefusal>;
}
