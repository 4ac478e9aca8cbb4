import type { RevocationView } from '../control/index.ts';

/** Revocations asked for: the newest, a page. */
export const REVOCATIONS_ASKED = 200;
/** Ends report what a revocation cut within this, by clocks that may differ. */
const NEAR_MS = 60_000;
/** Ways in which links, streams and logins end because of a revocation. */
const ENDED_BY_REVOCATION: readonly string[] = [
  'key_revoked',
  'key_rotated',
  'auth_rule_removed',
  'connection_removed',
  'identity_revoked',
];
const KEY_ID = /\bk_[0-9a-f]+\b/;

/** What is known of a failure, of which only some say whose key it was. */
interface Ended {
  readonly at: string;
  readonly connection: string;
  readonly code: string;
  readonly detail: string;
  readonly principal: string | null;
}

export const isByRevocation = ({ code }: Pick<Ended, 'code'>): boolean => ENDED_BY_REVOCATION.includes(code);

const named = (row: RevocationView): string =>
  row.key_id ?? row.agent ?? `connection ${String(row.connection)}`;

/**
 * Who revoked what, when and why, of the revocations behind a failure: the one of the key that its detail names, else those of
 * the same kind, connection and auth-rule that came into force within a minute of it; none when nothing fits.
 *
 * @param rows newest first
 */
export const revocationsBehind = (failure: Ended, rows: readonly RevocationView[]): readonly string[] => {
  const keyId = KEY_ID.exec(failure.detail)?.[0];
  const isNear = ({ effective_at: at }: RevocationView): boolean =>
    Math.abs(Date.parse(at) - Date.parse(failure.at)) <= NEAR_MS;
  const found = rows.filter((row) =>
    keyId === undefined
      ? row.kind === failure.code &&
        (row.connection === null || row.connection === failure.connection) &&
        (failure.principal === null || row.auth_rule === null || row.auth_rule === failure.principal) &&
        isNear(row)
      : row.key_id === keyId,
  );
  return found.map(revocationText);
};

/** Who revoked what, when and why. */
const revocationText = (row: RevocationView): string => {
  const rule = row.auth_rule === null ? '' : ` (${row.connection ?? 'namespace'}/${row.auth_rule})`;
  const because = row.reason === '' ? '' : `: ${row.reason}`;
  return `${named(row)}${rule}, ${row.effective_at}, by ${row.actor}${because}; \`sallyport revocation show ${row.revocation_id}\``;
};

/** Of these many keys of a connection it is told that they were revoked, the newest first. */
const KEYS_TOLD = 3;

/**
 * What became of the keys that gateways had for a connection to which none has a good one now: the last failure may be
 * another than the revocation itself.
 *
 * @param rows newest first
 */
export const lostKeys = (connection: string, rows: readonly RevocationView[]): readonly string[] =>
  rows
    .filter((row) => row.key_id !== null && (row.connection === null || row.connection === connection))
    .slice(0, KEYS_TOLD)
    .map(revocationText);
