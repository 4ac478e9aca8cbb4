import { verify as verifySignature, type X509Certificate } from 'node:crypto';
import { messageOf } from '../../runtime/index.ts';
import { type CertificateFields, certificateFields } from './certificate-fields.ts';
import { context, DerReader, fullNameUrls, oidText, readExtensions, TAG, timeMs } from './der.ts';

/** A clock may be behind that of the authority by this much. */
const FUTURE_MS = 5 * 60 * 1000;
const DISTRIBUTION_POINT = '2.5.29.28';
const REASON_CODE = '2.5.29.21';

/** Digest of each signature algorithm that is taken; null: the algorithm has its own. SHA-1 is not. */
const DIGEST_OF: Readonly<Record<string, string | null>> = {
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
  '1.3.101.112': null,
  '1.3.101.113': null,
};

/** CRLReason (RFC 5280 §5.3.1). */
const REASONS: Readonly<Record<number, string>> = {
  1: 'key compromise',
  2: 'CA compromise',
  3: 'affiliation changed',
  4: 'superseded',
  5: 'cessation of operation',
  6: 'certificate hold',
  9: 'privilege withdrawn',
  10: 'AA compromise',
};

/** A list that says nothing about a certificate, and why. */
export class UnusableCrl extends Error {}

export interface CrlVerdict {
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number;
  /** When and why the certificate was revoked; undefined when it is not on the list. */
  readonly revoked: { readonly atMs: number; readonly reason: string } | undefined;
}

/** What a list covers, when it does not cover everything (RFC 5280 §5.2.5). */
const checkScope = (value: Buffer, isAuthority: boolean, url: string): void => {
  const scope = new DerReader(value).into();
  const name = scope.optional(context(0, true));
  const urls = name === undefined ? [] : fullNameUrls(name);
  if (name !== undefined && !urls.includes(url))
    throw new UnusableCrl(`it is the list of ${urls.join(', ') || 'another place'}`);
  while (!scope.isAtEnd) {
    const { tag, content } = scope.next();
    if (tag !== context(3, false) && content[0] !== 0xff) continue;
    if (tag === context(1, false) && !isAuthority) continue;
    if (tag === context(2, false) && isAuthority) continue;
    throw new UnusableCrl('it is a list of other certificates, or of some reasons only');
  }
};

const reasonOf = (extensions: DerReader): string => {
  const reason = readExtensions(extensions).find(({ oid }) => oid === REASON_CODE);
  if (reason === undefined) return 'no reason given';
  const code = new DerReader(reason.value).next(TAG.enumerated).content[0] ?? 0;
  return REASONS[code] ?? 'no reason given';
};

const find = (entries: DerReader, serial: Buffer): CrlVerdict['revoked'] => {
  while (!entries.isAtEnd) {
    const entry = entries.into();
    if (!entry.next(TAG.integer).content.equals(serial)) continue;
    const atMs = timeMs(entry.next());
    return { atMs, reason: entry.isAtEnd ? 'no reason given' : reasonOf(entry.into()) };
  }
  return undefined;
};

interface Asked {
  readonly certificate: X509Certificate;
  readonly fields: CertificateFields;
  readonly issuer: X509Certificate;
  /** Where the certificate says that the list is. */
  readonly url: string;
  readonly nowMs: number;
}

const read = (der: Buffer, { certificate, fields, issuer, url, nowMs }: Asked): CrlVerdict => {
  const whole = new DerReader(der);
  const outer = whole.into();
  if (!whole.isAtEnd) throw new UnusableCrl('something follows it');
  const body = outer.next(TAG.sequence);
  const algorithm = oidText(outer.into().next(TAG.oid));
  const signature = outer.next(TAG.bitString).content.subarray(1);
  const digest = DIGEST_OF[algorithm];
  if (digest === undefined)
    throw new UnusableCrl(`it is signed by algorithm ${algorithm}, which is not taken`);
  if (!verifySignature(digest, body.whole, issuer.publicKey, signature))
    throw new UnusableCrl('its signature is not by the issuer of the certificate');
  const list = new DerReader(body.content);
  list.optional(TAG.integer);
  list.next(TAG.sequence);
  if (!list.next(TAG.sequence).whole.equals(certificateFields(issuer).subject))
    throw new UnusableCrl('it is the list of another issuer');
  const thisUpdateMs = timeMs(list.next());
  if (thisUpdateMs > nowMs + FUTURE_MS)
    throw new UnusableCrl(`it is of ${new Date(thisUpdateMs).toISOString()}, which is to come`);
  const next = list.optional(TAG.utcTime) ?? list.optional(TAG.generalizedTime);
  if (next === undefined) throw new UnusableCrl('it does not say until when it holds');
  const entries = list.optional(TAG.sequence);
  const extensions = list.optional(context(0, true));
  for (const extension of extensions === undefined
    ? []
    : readExtensions(new DerReader(extensions.content).into())) {
    if (extension.oid === DISTRIBUTION_POINT) checkScope(extension.value, certificate.ca, url);
    else if (extension.isCritical) throw new UnusableCrl(`it has a critical extension ${extension.oid}`);
  }
  return {
    thisUpdateMs,
    nextUpdateMs: timeMs(next),
    revoked: entries === undefined ? undefined : find(new DerReader(entries.content), fields.serial),
  };
};

/**
 * What a certificate revocation list (RFC 5280 §5, DER) says about one certificate: signature, issuer, scope and
 * critical extensions are checked. Whether it still holds is the caller's to say.
 *
 * @throws UnusableCrl with the reason
 */
export const readCrl = (der: Buffer, asked: Asked): CrlVerdict => {
  try {
    return read(der, asked);
  } catch (thrown) {
    if (thrown instanceof UnusableCrl) throw thrown;
    throw new UnusableCrl(`it cannot be read: ${messageOf(thrown)}`);
  }
};
