import { X509Certificate } from 'node:crypto';
import { AppError, messageOf, spkiFingerprint } from '../../runtime/index.ts';
import type { IdentityErrorCode } from '../errors.ts';
import { type Identity, identityOfUris, namespaceOfAuthority } from './identity-names.ts';

/** An identity that the authority vouches for now. */
export interface VerifiedIdentity extends Identity {
  /** Upper-case hex. */
  readonly serial: string;
  /** SHA-256 of its key, 64 lower-case hex digits. */
  readonly spki: string;
  readonly notAfterMs: number;
}

/** Clocks of both ends may be so far apart (identity.md, Credentials). */
export const IDENTITY_CLOCK_SKEW_MS = 60_000;

/** TLS server and client (RFC 5280 §4.2.1.12): the roles of a data link's ends are swapped. */
const USAGES = ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'] as const;

const refuse = (code: IdentityErrorCode, message: string, cause?: unknown): AppError<IdentityErrorCode> =>
  new AppError<IdentityErrorCode>(code, message, { cause });

/**
 * The URIs of a certificate, which has no name of another kind. Node quotes a name that it could be mistaken in: such a
 * name does not look like one of ours, and refuses the certificate.
 */
const urisOf = (certificate: X509Certificate): string[] =>
  (certificate.subjectAltName ?? '')
    .split(', ')
    .filter((name) => name !== '')
    .map((name) => (name.startsWith('URI:') ? name.slice('URI:'.length) : name));

/** The namespace of an authority. @throws AppError ERR_IDENTITY_AUTHORITY when it cannot be one */
export const readAuthority = (pem: string): { certificate: X509Certificate; namespace: string } => {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch (error) {
    throw refuse('ERR_IDENTITY_AUTHORITY', `no certificate of an authority: ${messageOf(error)}`, error);
  }
  const [uri = '', ...others] = urisOf(certificate);
  const namespace = others.length === 0 ? namespaceOfAuthority(uri) : undefined;
  if (!certificate.ca || namespace === undefined)
    throw refuse('ERR_IDENTITY_AUTHORITY', 'the certificate is not one of a namespace authority');
  return { certificate, namespace };
};

/**
 * Checks the certificate of an identity against the authority that one has pinned. No other authority is asked, and no
 * intermediate one may stand between.
 *
 * @param presented PEM or DER of the holder's own certificate
 * @throws AppError ERR_IDENTITY_UNTRUSTED when the authority did not issue it, ERR_IDENTITY_EXPIRED outside its dates or the
 *   authority's, ERR_IDENTITY_NAMESPACE for another namespace, ERR_IDENTITY_CERTIFICATE for what is no certificate of an identity
 */
export const verifyIdentity = (
  presented: string | Buffer,
  trust: { readonly authorityPem: string; readonly namespace: string; readonly nowMs: number },
): VerifiedIdentity => {
  const { certificate: authority, namespace: ofAuthority } = readAuthority(trust.authorityPem);
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(presented);
  } catch (error) {
    throw refuse('ERR_IDENTITY_CERTIFICATE', `it is no certificate: ${messageOf(error)}`, error);
  }
  // First of all: nothing of what it says counts before.
  if (!certificate.checkIssued(authority) || !certificate.verify(authority.publicKey))
    throw refuse(
      'ERR_IDENTITY_UNTRUSTED',
      `the namespace authority (key sha256 ${spkiFingerprint(authority)}) did not issue it`,
    );
  for (const [what, { validFrom, validTo }] of [
    ['the certificate', certificate],
    ['the namespace authority', authority],
  ] as const) {
    const [fromMs, toMs] = [Date.parse(validFrom), Date.parse(validTo)];
    // Not the other way round: a date that cannot be read is none.
    const isLive =
      trust.nowMs >= fromMs - IDENTITY_CLOCK_SKEW_MS && trust.nowMs < toMs + IDENTITY_CLOCK_SKEW_MS;
    if (!isLive) throw refuse('ERR_IDENTITY_EXPIRED', `${what} holds from ${validFrom} to ${validTo}`);
  }
  if (certificate.ca) throw refuse('ERR_IDENTITY_CERTIFICATE', 'it is one of an authority');
  const { asymmetricKeyType, asymmetricKeyDetails } = certificate.publicKey;
  if (asymmetricKeyType !== 'ec' || asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw refuse('ERR_IDENTITY_CERTIFICATE', `its key is ${String(asymmetricKeyType)}, not EC P-256`);
  const usages = certificate.keyUsage as readonly string[] | undefined;
  if (usages?.length !== USAGES.length || USAGES.some((usage) => !usages.includes(usage)))
    throw refuse('ERR_IDENTITY_CERTIFICATE', 'it is not for TLS client and server');
  const identity = identityOfUris(urisOf(certificate));
  for (const namespace of [ofAuthority, trust.namespace]) {
    if (identity.namespace !== namespace)
      throw refuse('ERR_IDENTITY_NAMESPACE', `it is of namespace ${identity.namespace}, not of ${namespace}`);
  }
  return {
    ...identity,
    serial: certificate.serialNumber,
    spki: spkiFingerprint(certificate),
    notAfterMs: Date.parse(certificate.validTo),
  };
};
