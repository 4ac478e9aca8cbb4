import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import {
  AppError,
  BACKDATE_MS,
  CERTIFICATE_ALGORITHM,
  type CertificateAndKey,
  type Clock,
  importSigningKey,
  loadX509,
  messageOf,
  newCertificateKeys,
  newSerial,
  pemText,
  privatePem,
} from '../../runtime/index.ts';
import type { IdentityErrorCode } from '../errors.ts';
import { authorityUri, type Identity, identityUris } from './identity-names.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** An authority outlives its installation's machines; taking another one means enrolling anew. */
const AUTHORITY_LIFE_MS = 3_650 * DAY_MS;
/** Certificates of identities live so long, and are renewed at 80 % of it. */
export const IDENTITY_LIFE_MS = DAY_MS;

const refuse = (code: IdentityErrorCode, message: string, cause?: unknown): AppError<IdentityErrorCode> =>
  new AppError<IdentityErrorCode>(code, message, { cause });

/** Makes the authority of a namespace: ES256, may issue to ends only. */
export const createNamespaceAuthority = async (
  namespace: string,
  clock: Clock,
): Promise<CertificateAndKey> => {
  const x509 = await loadX509();
  const keys = await newCertificateKeys();
  const nowMs = clock.nowMs();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: newSerial(),
    name: [{ CN: ['Sallyport namespace authority'] }, { O: [namespace.slice(0, 64)] }],
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + AUTHORITY_LIFE_MS),
    signingAlgorithm: CERTIFICATE_ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: authorityUri(namespace) }]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certPem: pemText(certificate), keyPem: await privatePem(keys.privateKey) };
};

/** A key that stays where it was made, and the request that proves its possession (PKCS#10). */
export interface IdentityRequest {
  readonly keyPem: string;
  readonly requestPem: string;
}

/** Makes an ES256 key and a request for it. The request names nobody: who it is for stands in the enrolment. */
export const createIdentityRequest = async (): Promise<IdentityRequest> => {
  const x509 = await loadX509();
  const keys = await newCertificateKeys();
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: '',
    keys,
    signingAlgorithm: CERTIFICATE_ALGORITHM,
  });
  return { keyPem: await privatePem(keys.privateKey), requestPem: pemText(request) };
};

/** Longest request, characters: one of a P-256 key has under 500. */
export const MAX_REQUEST_CHARS = 4_096;

/**
 * The public key of a request whose signature proves that its sender has the private one. Names in it are not read.
 * @returns SPKI in DER
 * @throws AppError ERR_IDENTITY_REQUEST
 */
export const keyOfRequest = async (requestPem: string): Promise<Buffer> => {
  if (requestPem.length > MAX_REQUEST_CHARS)
    throw refuse(
      'ERR_IDENTITY_REQUEST',
      `the request has ${requestPem.length} characters, the limit is ${MAX_REQUEST_CHARS}`,
    );
  const x509 = await loadX509();
  let spki: Buffer;
  let isProved: boolean;
  try {
    const request = new x509.Pkcs10CertificateRequest(requestPem);
    spki = Buffer.from(request.publicKey.rawData);
    const key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
    if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
      throw new Error(`its key is ${key.asymmetricKeyType ?? 'of no kind'}, not EC P-256`);
    isProved = await request.verify();
  } catch (error) {
    throw refuse('ERR_IDENTITY_REQUEST', `the request cannot be used: ${messageOf(error)}`, error);
  }
  if (!isProved) throw refuse('ERR_IDENTITY_REQUEST', 'the request is not signed by the key that it is for');
  return spki;
};

export interface IssueOptions {
  readonly authority: CertificateAndKey;
  /** SPKI in DER, of `keyOfRequest`. */
  readonly publicKey: Buffer;
  readonly identity: Identity;
  /** Default: IDENTITY_LIFE_MS. Never beyond the authority's own end. */
  readonly lifeMs?: number;
  readonly clock: Clock;
}

/**
 * Issues the certificate of an identity, PEM: TLS client and server, one URI for the holder and one for each connection.
 * @throws AppError ERR_IDENTITY_AUTHORITY when the key is not the authority's, or it is of another namespace;
 *   ERR_IDENTITY_CERTIFICATE for names that no certificate may have
 */
export const issueIdentityCertificate = async (options: IssueOptions): Promise<string> => {
  const { authority, publicKey, identity, lifeMs = IDENTITY_LIFE_MS, clock } = options;
  const key = createPrivateKey(authority.keyPem);
  const parsed = new X509Certificate(authority.certPem);
  if (!parsed.checkPrivateKey(key))
    throw refuse('ERR_IDENTITY_AUTHORITY', "the key is not that of the authority's certificate");
  if (parsed.subjectAltName !== `URI:${authorityUri(identity.namespace)}`)
    throw refuse(
      'ERR_IDENTITY_AUTHORITY',
      `the authority is of ${String(parsed.subjectAltName)}, not of namespace ${identity.namespace}`,
    );
  const uris = identityUris(identity);
  const x509 = await loadX509();
  const issuer = new x509.X509Certificate(authority.certPem);
  const nowMs = clock.nowMs();
  const holder = new x509.PublicKey(publicKey);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: newSerial(),
    subject: [{ CN: [`${identity.kind}/${identity.name}`.slice(0, 64)] }],
    issuer: issuer.subjectName,
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(Math.min(nowMs + lifeMs, issuer.notAfter.getTime())),
    signingAlgorithm: CERTIFICATE_ALGORITHM,
    publicKey: holder,
    signingKey: await importSigningKey(key),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(
        [x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth],
        true,
      ),
      new x509.SubjectAlternativeNameExtension(uris.map((value) => ({ type: 'url', value }))),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      await x509.SubjectKeyIdentifierExtension.create(holder),
    ],
  });
  return pemText(certificate);
};
