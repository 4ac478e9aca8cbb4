import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type { Clock } from './clock.ts';
import {
  BACKDATE_MS,
  CERTIFICATE_ALGORITHM,
  importSigningKey,
  loadX509,
  newCertificateKeys,
  newSerial,
  pemText,
  privatePem,
} from './x509.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const AUTHORITY_DAYS = 3650;
const SERVER_DAYS = 397;
const LINK_DAYS = 7;

/** A certificate and its private key, PEM. */
export interface CertificateAndKey {
  readonly certPem: string;
  readonly keyPem: string;
}

/** What one end of a data link shows to the other: self-signed, known by its SPKI fingerprint. */
export interface LinkCertificate extends CertificateAndKey {
  /** SHA-256 of the SubjectPublicKeyInfo, 64 lower-case hex digits. */
  readonly spki: string;
  readonly notAfterMs: number;
}

const spkiOf = (key: Buffer): string => createHash('sha256').update(key).digest('hex');

/** SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469 §2.4), 64 lower-case hex digits. */
export const spkiFingerprint = (certificate: string | Buffer | X509Certificate): string => {
  const parsed = certificate instanceof X509Certificate ? certificate : new X509Certificate(certificate);
  return spkiOf(parsed.publicKey.export({ type: 'spki', format: 'der' }));
};

/** Whether text begins, perhaps after other lines, with a certificate in PEM. */
export const holdsCertificate = (pem: string): boolean => {
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    return false;
  }
};

/** Makes a self-signed certificate authority for development and private installations. */
export const createAuthority = async (name: string, clock: Clock): Promise<CertificateAndKey> => {
  const x509 = await loadX509();
  const keys = await newCertificateKeys();
  const nowMs = clock.nowMs();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ CN: [name] }],
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + AUTHORITY_DAYS * DAY_MS),
    signingAlgorithm: CERTIFICATE_ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certPem: pemText(certificate), keyPem: await privatePem(keys.privateKey) };
};

/**
 * Makes a TLS server certificate under an authority of `createAuthority`.
 *
 * @param hosts DNS names and IP addresses, at least one; all become subject alternative names.
 */
export const createServerCertificate = async (
  authority: CertificateAndKey,
  hosts: readonly string[],
  clock: Clock,
): Promise<CertificateAndKey> => {
  const x509 = await loadX509();
  const keys = await newCertificateKeys();
  const issuer = new x509.X509Certificate(authority.certPem);
  const nowMs = clock.nowMs();
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject: [{ CN: [hosts[0] ?? 'localhost'] }],
    issuer: issuer.subjectName,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + SERVER_DAYS * DAY_MS),
    signingAlgorithm: CERTIFICATE_ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: await importSigningKey(createPrivateKey(authority.keyPem)),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension(
        hosts.map((host) => ({ type: isIP(host) === 0 ? ('dns' as const) : ('ip' as const), value: host })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certPem: pemText(certificate), keyPem: await privatePem(keys.privateKey) };
};

/**
 * Makes the self-signed certificate of one end of data links. Peers know it by `spki`, which the relay names in
 * its offers; its dates are not checked by a peer that pins.
 */
export const createLinkCertificate = async (name: string, clock: Clock): Promise<LinkCertificate> => {
  const x509 = await loadX509();
  const keys = await newCertificateKeys();
  const nowMs = clock.nowMs();
  const notAfterMs = nowMs + LINK_DAYS * DAY_MS;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ CN: [name.slice(0, 64)] }],
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(notAfterMs),
    signingAlgorithm: CERTIFICATE_ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
    ],
  });
  const certPem = pemText(certificate);
  return { certPem, keyPem: await privatePem(keys.privateKey), spki: spkiFingerprint(certPem), notAfterMs };
};
