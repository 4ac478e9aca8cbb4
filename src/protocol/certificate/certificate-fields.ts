import type { X509Certificate } from 'node:crypto';
import { context, DerReader, fullNameUrls, readExtensions, TAG } from './der.ts';

const DISTRIBUTION_POINTS = '2.5.29.31';

/** What a certificate says of itself that Node does not tell. */
export interface CertificateFields {
  /** The serial number as DER has it. */
  readonly serial: Buffer;
  /** Names, DER. */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  /** Where its CRL is, `http:` only, in its order. */
  readonly crlUrls: readonly string[];
}

const crlUrlsOf = (value: Buffer): string[] => {
  const urls: string[] = [];
  const points = new DerReader(value).into();
  while (!points.isAtEnd) {
    const point = points.into();
    const name = point.optional(context(0, true));
    // With reasons [1] the list is of some only; with an issuer [2] it is somebody else's list.
    if (name !== undefined && point.isAtEnd) urls.push(...fullNameUrls(name));
  }
  return urls.filter((url) => URL.canParse(url) && new URL(url).protocol === 'http:');
};

/** @throws DerError */
export const certificateFields = (certificate: X509Certificate): CertificateFields => {
  const body = new DerReader(certificate.raw).into().into();
  body.optional(context(0, true));
  const serial = body.next(TAG.integer).content;
  body.next(TAG.sequence);
  const issuer = body.next(TAG.sequence).whole;
  body.next(TAG.sequence);
  const subject = body.next(TAG.sequence).whole;
  body.next(TAG.sequence);
  body.optional(context(1, false));
  body.optional(context(2, false));
  const list = body.optional(context(3, true));
  const extensions = list === undefined ? [] : readExtensions(new DerReader(list.content).into());
  const points = extensions.find(({ oid }) => oid === DISTRIBUTION_POINTS);
  return { serial, issuer, subject, crlUrls: points === undefined ? [] : crlUrlsOf(points.value) };
};
