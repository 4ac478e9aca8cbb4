import type { z } from 'zod';
import type { AuthRuleRecord, ConnectionRecord, DisclosedKey, KeyRecord, TokenRecord } from '../records.ts';
import type { RevocationRecord } from '../revocation-store.ts';
import type {
  authRuleView,
  connectionView,
  disclosedKeyView,
  keyView,
  revocationView,
  tokenView,
} from './schemas.ts';

export const viewOfConnection = (record: ConnectionRecord): z.infer<typeof connectionView> => ({
  id: record.id,
  name: record.name,
  target: record.target,
  labels: record.labels,
  version: record.version,
  created_at: record.createdAt.toISOString(),
  updated_at: record.updatedAt.toISOString(),
});

export const viewOfAuthRule = (rule: AuthRuleRecord): z.infer<typeof authRuleView> => ({
  connection: rule.connection ?? null,
  name: rule.name,
  claims: [...rule.claims],
  version: rule.version,
  created_at: rule.createdAt.toISOString(),
});

export const viewOfKey = (key: KeyRecord): z.infer<typeof keyView> => ({
  key_id: key.keyId,
  connection: key.connection ?? null,
  auth_rule: key.authRule,
  slot: key.slot,
  claims: [...key.claims],
  state: key.state,
  last_used_at: key.lastUsedAt?.toISOString() ?? null,
  created_at: key.createdAt.toISOString(),
  retire_at: key.retireAt?.toISOString() ?? null,
});

/** Holds the key's text: only answers of create, rotate and disclose are made of it. */
export const viewOfDisclosedKey = (key: DisclosedKey): z.infer<typeof disclosedKeyView> => ({
  key_id: key.keyId,
  connection: key.connection ?? null,
  auth_rule: key.authRule,
  slot: key.slot,
  key: key.key,
  connection_string: key.connectionString,
});

export const viewOfToken = (token: TokenRecord): z.infer<typeof tokenView> => ({
  id: token.id,
  label: token.label,
  role: token.role,
  one_time: token.oneTime,
  created_by: token.createdBy,
  created_at: token.createdAt.toISOString(),
  expires_at: token.expiresAt?.toISOString() ?? null,
  revoked_at: token.revokedAt?.toISOString() ?? null,
  last_used_at: token.lastUsedAt?.toISOString() ?? null,
});

export const viewOfRevocation = (revocation: RevocationRecord): z.infer<typeof revocationView> => ({
  revocation_id: revocation.revocationId,
  key_id: revocation.keyId ?? null,
  agent: revocation.agent ?? null,
  instance: revocation.instance ?? null,
  kind: revocation.kind,
  reason: revocation.reason,
  connection: revocation.connection ?? null,
  auth_rule: revocation.authRule ?? null,
  slot: revocation.slot ?? null,
  actor: revocation.actor,
  created_at: revocation.createdAt.toISOString(),
  effective_at: revocation.effectiveAt.toISOString(),
});
