import { generateKeyPairSync } from 'node:crypto';

/** An ES256 public key in PEM. */
export const publicKeyPem = (): string =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' })
    .publicKey.export({ type: 'spki', format: 'pem' })
    .toString();
