import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { addSigner, createAuditRoot, openAuditKey } from '../../audit/index.ts';
import { createKeyringFile } from '../../control/index.ts';
import {
  AppError,
  type CertificateAndKey,
  type Clock,
  createAuthority,
  createServerCertificate,
  messageOf,
  PRIVATE_FILE_MODE,
  writeFileAtomically,
} from '../../runtime/index.ts';

/** Certificates are public: applications on the same machine verify with the authority's. */
const PUBLIC_FILE_MODE = 0o644;
const RENEW_BEFORE_MS = 30 * 24 * 60 * 60 * 1000;

/** Where a certificate and its key are kept. */
export interface CertificateFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

const write = (files: CertificateFiles, made: CertificateAndKey): CertificateAndKey => {
  writeFileAtomically(files.keyFile, made.keyPem, PRIVATE_FILE_MODE);
  writeFileAtomically(files.certFile, made.certPem, PUBLIC_FILE_MODE);
  return made;
};

const read = (files: CertificateFiles): CertificateAndKey | undefined => {
  if (!existsSync(files.certFile) || !existsSync(files.keyFile)) return undefined;
  try {
    return { certPem: readFileSync(files.certFile, 'utf8'), keyPem: readFileSync(files.keyFile, 'utf8') };
  } catch (error) {
    throw new AppError('ERR_CLI_STATE', `cannot read ${files.certFile}: ${messageOf(error)}`, {
      cause: error,
    });
  }
};

const parse = (file: string, pem: string): X509Certificate => {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw new AppError('ERR_CLI_STATE', `${file} is not a certificate`, { cause: error });
  }
};

/** The authority kept in these files, made at first use. @throws AppError ERR_CLI_STATE */
export const ensureAuthority = async (
  files: CertificateFiles,
  name: string,
  clock: Clock,
): Promise<CertificateAndKey> => {
  const found = read(files);
  if (found === undefined) return write(files, await createAuthority(name, clock));
  parse(files.certFile, found.certPem);
  return found;
};

/**
 * The server certificate kept in these files, made at first use and again when it does not name every host,
 * is of another authority, or ends within 30 days.
 */
export const ensureServerCertificate = async (
  files: CertificateFiles,
  authority: CertificateAndKey,
  hosts: readonly string[],
  clock: Clock,
): Promise<CertificateAndKey> => {
  const found = read(files);
  if (found !== undefined) {
    const certificate = parse(files.certFile, found.certPem);
    const names = hosts.every((host) =>
      isIP(host) === 0 ? certificate.checkHost(host) !== undefined : certificate.checkIP(host) !== undefined,
    );
    const lasts = Date.parse(certificate.validTo) - clock.nowMs() > RENEW_BEFORE_MS;
    if (names && lasts && certificate.verify(new X509Certificate(authority.certPem).publicKey)) return found;
  }
  return write(files, await createServerCertificate(authority, hosts, clock));
};

/** The keyring in this file, made at first use. Losing it loses every stored key. */
export const ensureKeyring = (file: string): void => {
  if (!existsSync(file)) createKeyringFile(file);
};

export interface TrustFiles {
  readonly rootKeyFile: string;
  readonly trustFile: string;
}

/** Makes the audit root and the audit keys of these processes, and vouches for each in the trust file. */
export const ensureTrust = (
  files: TrustFiles,
  signers: readonly { kind: 'relay' | 'agent'; name: string; keyFile: string }[],
  clock: Clock,
): void => {
  createAuditRoot(files);
  for (const { kind, name, keyFile } of signers) {
    addSigner({ ...files, publicKey: openAuditKey(keyFile).publicKey, kind, name, clock });
  }
};

/** Makes the key that signs bundles (P-256) and returns it in PEM; its public half is what agents are given. */
export const createPolicyKey = (files: {
  readonly privateKeyFile: string;
  readonly publicKeyFile: string;
}): string => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  writeFileAtomically(files.privateKeyFile, privateKey, PRIVATE_FILE_MODE);
  writeFileAtomically(files.publicKeyFile, publicKey, PUBLIC_FILE_MODE);
  return privateKey;
};
