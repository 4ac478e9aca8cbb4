import { createPrivateKey, type KeyObject, webcrypto } from 'node:crypto';
import type * as X509 from '@peculiar/x509';
import { randomBytes } from './random.ts';

// What every maker of certificates needs.

/** Loaded when a certificate is first made: most commands never do, and it takes a third of a second. */
export const loadX509 = async (): Promise<typeof X509> => {
  await import('reflect-metadata');
  return import('@peculiar/x509');
};

/** Every certificate of ours is ECDSA P-256 with SHA-256. */
export const CERTIFICATE_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
/** A certificate starts this long before its making, so that a slow clock at the peer does no harm. */
export const BACKDATE_MS = 60 * 60 * 1000;
const SERIAL_BYTES = 16;

export const newCertificateKeys = (): Promise<webcrypto.CryptoKeyPair> =>
  webcrypto.subtle.generateKey(CERTIFICATE_ALGORITHM, true, ['sign', 'verify']);

/** PKCS#8. */
export const privatePem = async (key: webcrypto.CryptoKey): Promise<string> => {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key));
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    .export({ format: 'pem', type: 'pkcs8' })
    .toString();
};

/** A positive serial of 127 random bits (RFC 5280 §4.1.2.2). */
export const newSerial = (): string => {
  const serial = randomBytes(SERIAL_BYTES);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  return serial.toString('hex');
};

export const pemText = (what: X509.X509Certificate | X509.Pkcs10CertificateRequest): string =>
  `${what.toString('pem').trim()}\n`;

export const importSigningKey = (key: KeyObject): Promise<webcrypto.CryptoKey> =>
  webcrypto.subtle.importKey(
    'pkcs8',
    key.export({ type: 'pkcs8', format: 'der' }),
    CERTIFICATE_ALGORITHM,
    false,
    ['sign'],
  );
