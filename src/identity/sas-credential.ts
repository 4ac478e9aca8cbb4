import { createHash } from 'node:crypto';
import { parseConnectionString } from './connection-string.ts';
import { keyIdOf } from './key.ts';
import { createSasToken } from './sas-token.ts';

/** Life of a minted token; renewed at 80 % of it by the login. */
export const SAS_TOKEN_LIFE_MS = 60 * 60 * 1000;

/** A connection string as something that mints tokens; the key text stays inside. */
export interface SasCredential {
  /** Names this credential in control messages; stable for the same connection string. */
  readonly handle: string;
  /** The connection; absent for a connection string of the namespace. */
  readonly connection: string | undefined;
  readonly keyName: string;
  /** Public id of the key. */
  readonly keyId: string;
  /** Host of the namespace. */
  readonly namespace: string;
  /** What was ignored in the connection string. */
  readonly notes: readonly string[];
  /** A fresh token; `nowMs` is wall-clock time. */
  mint(nowMs: number): { token: string; expiresAtMs: number };
}

/**
 * The credential of a connection string.
 * @throws AppError ERR_IDENTITY_CONNECTION_STRING
 */
export const sasCredential = (connectionString: string): SasCredential => {
  const parts = parseConnectionString(connectionString);
  const keyId = keyIdOf(parts.key);
  const host = parts.host.includes(':') ? `[${parts.host}]` : parts.host;
  const resource = `http://${host}/${parts.entityPath ?? ''}`;
  const handle = createHash('sha256')
    .update(`${parts.host}\n${parts.entityPath ?? ''}\n${parts.keyName}\n${keyId}`)
    .digest('hex')
    .slice(0, 16);
  return {
    handle,
    connection: parts.entityPath,
    keyName: parts.keyName,
    keyId,
    namespace: parts.host,
    notes: parts.notes,
    mint(nowMs) {
      const expiresAtS = Math.floor((nowMs + SAS_TOKEN_LIFE_MS) / 1000);
      const token = createSasToken({ resource, keyName: parts.keyName, key: parts.key, expiresAtS });
      return { token, expiresAtMs: expiresAtS * 1000 };
    },
  };
};
