import type { TLSSocket } from 'node:tls';
import { cleanText, spkiFingerprint } from '../../runtime/index.ts';

/** What is shown of an issuer's name. */
const MAX_ISSUER_CHARS = 200;

/** The certificate that whoever answers shows. */
export interface SeenCertificate {
  /** SHA-256 of its SPKI, 64 lower-case hex digits. */
  readonly spki: string;
  /** The common name of its issuer, or its organization. */
  readonly issuer: string;
}

/** The peer's certificate of a TLS connection; undefined before it has shown one. */
export const seenCertificate = (secure: TLSSocket): SeenCertificate | undefined => {
  const { raw, issuer } = secure.getPeerCertificate() as {
    readonly raw?: Buffer;
    readonly issuer?: Readonly<Record<string, string | string[] | undefined>>;
  };
  if (raw === undefined) return undefined;
  const name = issuer?.['CN'] ?? issuer?.['O'] ?? 'an issuer without a name';
  return { spki: spkiFingerprint(raw), issuer: cleanText(String(name)).slice(0, MAX_ISSUER_CHARS) };
};
