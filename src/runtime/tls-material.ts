import { createHash, createPrivateKey, type KeyObject, webcrypto, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import type * as X509 from '@peculiar/x509';
import type { Clock } from './clock.ts';
import { randomBytes } from './random.ts';

/** Loaded when a certificate is first made: most commands never do, and it takes a third of a second. */
const loadX509 = async (): Promise<typeof X509> => {
  await import('reflect-metadata');
  return import('@peculiar/x509');
};

/** Every certificate of ours is ECDSA P-256 with SHA-256. */
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const SERIAL_BYTES = 16;
const DAY_MS = 24 * 60 * 60 * 1000;
/** A certificate starts this long before its making, so that a slow clock at the peer does no harm. */
const BACKDATE_MS = 60 * 60 * 1000;
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

const newKeys = (): Promise<webcrypto.CryptoKeyPair> =>
  webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);

const privatePem = async (key: webcrypto.CryptoKey): Promise<string> => {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key));
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    .export({ format: 'pem', type: 'pkcs8' })
    .toString();
};

/** A positive serial of 127 random bits (RFC 5280 §4.1.2.2). */
const newSerial = (): string => {
  const serial = randomBytes(SERIAL_BYTES);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  return serial.toString('hex');
};

/** Makes a self-signed certificate authority for development and private installations. */
export const createAuthority = async (name: string, clock: Clock): Promise<CertificateAndKey> => {
  const x509 = await loadX509();
  const keys = await newKeys();
  const nowMs = clock.nowMs();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ CN: [name] }],
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + AUTHORITY_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certPem: pemText(certificate), keyPem: await privatePem(keys.privateKey) };
};

const pemText = (certificate: X509.X509Certificate): string => `${certificate.toString('pem').trim()}\n`;

const importPrivate = (key: KeyObject): Promise<webcrypto.CryptoKey> =>
  webcrypto.subtle.importKey('pkcs8', key.export({ type: 'pkcs8', format: 'der' }), ALGORITHM, false, [
    'sign',
  ]);

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
  const keys = await newKeys();
  const issuer = new x509.X509Certificate(authority.certPem);
  const nowMs = clock.nowMs();
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject: [{ CN: [hosts[0] ?? 'localhost'] }],
    issuer: issuer.subjectName,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + SERVER_DAYS * DAY_MS),
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: await importPrivate(createPrivateKey(authority.keyPem)),
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
  const keys = await newKeys();
  const nowMs = clock.nowMs();
  const notAfterMs = nowMs + LINK_DAYS * DAY_MS;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ CN: [name.slice(0, 64)] }],
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(notAfterMs),
    signingAlgorithm: ALGORITHM,
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
