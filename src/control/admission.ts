import {
  MAX_SAS_TOKEN_LENGTH,
  newKeyText,
  parseSasToken,
  resourceMatches,
  type SasToken,
  verifySasToken,
} from '../identity/index.ts';
import { cleanText, type Clock, isAppError, type Logger, messageOf } from '../runtime/index.ts';
import { NAMESPACE_SCOPE } from './context.ts';
import type {
  Admission,
  AdmissionCode,
  AdmissionRefusal,
  VerifiedCredential,
  VerifyRequest,
} from './credential.ts';
import type { KeyCache, ScopeEntry } from './key-cache.ts';
import type { ScopeKey } from './key-store.ts';
import type { KeyUsage } from './key-usage.ts';
import type { RevocationFeed } from './revocation-feed.ts';

/** An expired token still renews an established login for so long (identity.md). */
export const RENEWAL_GRACE_MS = 5 * 60 * 1000;

export interface AdmissionOptions {
  readonly cache: KeyCache;
  readonly revocations: Pick<RevocationFeed, 'isRevoked'>;
  readonly usage: Pick<KeyUsage, 'note'>;
  /** Host names that a token's `sr` may name. */
  readonly hosts: readonly string[];
  /** Why nothing may be admitted now. */
  readonly unavailableBecause: () => string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

const STATUS: Readonly<Record<AdmissionCode, AdmissionRefusal['status']>> = {
  token_malformed: 401,
  token_resource: 401,
  token_expired: 401,
  not_authorized: 401,
  key_revoked: 401,
  key_rotated: 401,
  claim_missing: 403,
  connection_unknown: 404,
  unavailable: 503,
};

const refusal = (code: AdmissionCode, detail: string, claimed?: string): AdmissionRefusal => ({
  ok: false,
  status: STATUS[code],
  code,
  detail,
  claimed_key_name: claimed,
});

/** A key that no token was signed with: an unknown auth-rule costs the same HMAC as a wrong key. */
const DECOY = newKeyText();

interface Found {
  readonly key: ScopeKey;
  readonly scope: VerifiedCredential['scope'];
}

/** The key that signed: the connection's auth-rule first, then the namespace's; primary, then secondary. */
const findSigner = (entry: ScopeEntry, token: SasToken, onlyKeyId: string | undefined): Found | undefined => {
  const scopes = [
    { scope: 'connection', keys: entry.connectionKeys },
    { scope: 'namespace', keys: entry.namespaceKeys },
  ] as const;
  let found: Found | undefined;
  let tried = 0;
  for (const { scope, keys } of scopes) {
    for (const key of keys) {
      if (key.authRule !== token.keyName) continue;
      if (onlyKeyId !== undefined && key.keyId !== onlyKeyId) continue;
      tried += 1;
      if (verifySasToken(token, key.text)) found ??= { key, scope };
    }
  }
  if (tried === 0) verifySasToken(token, DECOY);
  return found;
};

/** Admission by SAS token over the key cache. */
export const createAdmission = (options: AdmissionOptions): Admission => {
  const { cache, revocations, usage, clock, logger } = options;

  const entryOf = async (
    connection: string,
    load: (connection: string) => Promise<ScopeEntry | undefined> = (name) => cache.get(name),
  ): Promise<ScopeEntry | undefined> => {
    try {
      return await load(connection);
    } catch (error) {
      logger.warn({ cause: messageOf(error) }, 'credential not verified: control database');
      return undefined;
    }
  };

  const judge = (
    entry: ScopeEntry,
    token: SasToken,
    request: VerifyRequest,
    claimed: string,
  ): VerifiedCredential | AdmissionRefusal => {
    const found = findSigner(entry, token, request.renewalOfKeyId);
    if (found === undefined)
      return refusal('not_authorized', 'no key of the auth-rule signed this token', claimed);
    const { key, scope } = found;
    const dead = revocations.isRevoked(key.keyId);
    if (dead !== undefined || key.state === 'revoked') {
      const code = dead?.kind === 'key_rotated' ? 'key_rotated' : 'key_revoked';
      return refusal(code, `key ${key.keyId} is no longer valid`, claimed);
    }
    const graceMs = request.renewalOfKeyId === undefined ? 0 : RENEWAL_GRACE_MS;
    if (token.expiresAtS * 1000 + graceMs <= clock.nowMs())
      return refusal(
        'token_expired',
        `token expired ${new Date(token.expiresAtS * 1000).toISOString()}`,
        claimed,
      );
    if (!key.claims.includes(request.claim))
      return refusal('claim_missing', `auth-rule does not have the claim ${request.claim}`, claimed);
    if (entry.connection === undefined)
      return refusal(
        'connection_unknown',
        `no connection ${JSON.stringify(cleanText(request.connection, 63))}`,
        claimed,
      );
    return {
      ok: true,
      kind: 'sas',
      key_id: key.keyId,
      principal: scope === 'namespace' ? `${NAMESPACE_SCOPE}/${key.authRule}` : key.authRule,
      auth_rule: key.authRule,
      slot: key.slot,
      claims: key.claims,
      expires_at_ms: token.expiresAtS * 1000,
      connection_id: entry.connection.id,
      connection: entry.connection.name,
      scope,
    };
  };

  return {
    async verify(tokenText, request) {
      let token: SasToken;
      try {
        token = parseSasToken(tokenText.slice(0, MAX_SAS_TOKEN_LENGTH + 1));
      } catch (error) {
        if (!isAppError(error)) throw error;
        return refusal('token_malformed', error.message);
      }
      const claimed = cleanText(token.keyName, 128);
      const unavailable = options.unavailableBecause();
      if (unavailable !== undefined) return refusal('unavailable', unavailable, claimed);
      const wanted = options.hosts.map((host) => ({ host, connection: request.connection }));
      if (!wanted.some((one) => resourceMatches(token.resource, one)))
        return refusal('token_resource', 'token is for another resource', claimed);
      const entry = await entryOf(request.connection);
      if (entry === undefined) return refusal('unavailable', 'control database is out of reach', claimed);
      let verdict = judge(entry, token, request, claimed);
      if (!verdict.ok && verdict.code === 'not_authorized') {
        const newer = await entryOf(request.connection, (name) => cache.refreshed(name));
        if (newer !== undefined) verdict = judge(newer, token, request, claimed);
      }
      // A revocation or the fence may have come while the keys were read; judged in this tick, not before.
      const fenced = options.unavailableBecause();
      if (fenced !== undefined) return refusal('unavailable', fenced, claimed);
      if (verdict.ok)
        usage.note({
          keyId: verdict.key_id,
          connection: verdict.scope === 'namespace' ? undefined : verdict.connection,
          authRule: verdict.auth_rule,
          slot: verdict.slot,
          source: request.source,
        });
      return verdict;
    },
  };
};
