import { spawn } from 'node:child_process';
import { createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';
import { AppError, messageOf } from '../../runtime/index.ts';
import { readArchive, writeArchive } from '../bundle/archive.ts';
import { readBundle } from '../bundle/bundle.ts';
import {
  algorithmOf,
  isSignedBy,
  type SignatureAlgorithm,
  SIGNATURES_FILE,
  signaturesText,
  signingInput,
} from '../bundle/signature.ts';
import type { PolicyErrorCode } from '../errors.ts';

/** A hardware key may wait for a finger this long. */
const SIGNER_LIMIT_MS = 5 * 60_000;
/** Base64 of the longest RSA signature, with room. */
const MAX_SIGNER_OUTPUT_BYTES = 16 * 1024;
/** r and s of P-256, RFC 7518 §3.4. */
const COORDINATE_BYTES = 32;

/** Who signs: a key at hand, or a command that has one elsewhere. */
export interface BundleSigner {
  readonly algorithm: SignatureAlgorithm;
  /** Checks what was signed; without one it is trusted. */
  readonly publicKey: KeyObject | undefined;
  /** The raw signature of these bytes. */
  readonly sign: (input: Buffer) => Promise<Buffer>;
}

const badKey = (what: string, cause?: unknown): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_KEY', what, { cause });
const badSigner = (what: string, cause?: unknown): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_SIGNER', what, { cause });

/** What OpenSSL says of a text that is no private key helps nobody. */
const whyNoPrivateKey = (pem: string): string => {
  if (pem.includes('ENCRYPTED')) return 'is an encrypted private key; use --signer';
  if (pem.includes('-----BEGIN PUBLIC KEY') || pem.includes('-----BEGIN RSA PUBLIC KEY')) {
    return 'is a public key; signing needs the private one';
  }
  if (pem.includes('-----BEGIN CERTIFICATE')) return 'is a certificate; signing needs a private key';
  return pem.includes('PRIVATE KEY-----')
    ? 'is a damaged private key, or one of a kind that is not known'
    : 'is not a private key in pem';
};

/**
 * Signs by a private key in PEM.
 * @param name what messages call the key, as its file
 * @throws AppError ERR_POLICY_KEY when it is none, is encrypted or cannot sign bundles
 */
export const keySigner = (
  pem: string,
  wanted?: SignatureAlgorithm,
  name = 'the signing key',
): BundleSigner => {
  let key: KeyObject;
  try {
    key = createPrivateKey(pem);
  } catch (cause) {
    throw badKey(`${name} ${whyNoPrivateKey(pem)}`, cause);
  }
  const algorithm = algorithmOf(key, name);
  if (wanted !== undefined && wanted !== algorithm) {
    throw badKey(`${name} signs ${algorithm}, not ${wanted}`);
  }
  const signKey = algorithm === 'ES256' ? ({ key, dsaEncoding: 'ieee-p1363' } as const) : key;
  return {
    algorithm,
    publicKey: createPublicKey(key),
    sign: (input) => Promise.resolve(sign('sha256', input, signKey)),
  };
};

/** r and s out of DER (RFC 3279 §2.2.3), which most signers give for ECDSA. */
const coordinates = (der: Buffer): Buffer => {
  const integers: Buffer[] = [];
  for (let at = 2; at < der.length && integers.length < 2; ) {
    const length = der[at + 1] ?? 0;
    if (der[at] !== 0x02 || at + 2 + length > der.length) break;
    integers.push(der.subarray(at + 2, at + 2 + length));
    at += 2 + length;
  }
  const [r, s] = integers.map((integer) => {
    const digits = integer[0] === 0 ? integer.subarray(1) : integer;
    return digits.length > COORDINATE_BYTES
      ? undefined
      : Buffer.concat([Buffer.alloc(COORDINATE_BYTES - digits.length), digits]);
  });
  if (der[0] !== 0x30 || der[1] !== der.length - 2 || r === undefined || s === undefined) {
    throw badSigner('the signer printed neither r and s (64 bytes) nor an ecdsa signature in der');
  }
  return Buffer.concat([r, s]);
};

const runSigner = (command: string, input: Buffer): Promise<string> =>
  new Promise((resolve, reject) => {
    // The operator's own words, as in a terminal; nothing else is put into them.
    const child = spawn(command, {
      shell: true,
      stdio: ['pipe', 'pipe', 'inherit'],
      timeout: SIGNER_LIMIT_MS,
    });
    const parts: Buffer[] = [];
    let length = 0;
    child.stdout.on('data', (part: Buffer) => {
      length += part.length;
      if (length > MAX_SIGNER_OUTPUT_BYTES) child.kill();
      else parts.push(part);
    });
    child.on('error', (cause) => reject(badSigner(`the signer does not run: ${messageOf(cause)}`, cause)));
    child.on('close', (status, signal) => {
      if (length > MAX_SIGNER_OUTPUT_BYTES) {
        reject(badSigner(`the signer printed more than ${String(MAX_SIGNER_OUTPUT_BYTES)} bytes`));
      } else if (status !== 0) {
        reject(badSigner(`the signer ended with ${String(status ?? signal)}`));
      } else {
        resolve(Buffer.concat(parts).toString('latin1'));
      }
    });
    // A signer that reads nothing is told by its status, not by the broken pipe.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });

/**
 * Signs by a command: it reads the bytes to sign (SHA-256 is its business) on standard input and prints the signature
 * in base64, for ES256 as r and s or in DER.
 */
export const commandSigner = (
  command: string,
  algorithm: SignatureAlgorithm,
  publicKey: KeyObject | undefined,
): BundleSigner => ({
  algorithm,
  publicKey,
  sign: async (input) => {
    const text = (await runSigner(command, input)).replace(/\s+/g, '');
    if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) throw badSigner('the signer did not print base64');
    const signature = Buffer.from(text.replace(/-/g, '+').replace(/_/g, '/'), 'base64');
    if (algorithm === 'RS256' || signature.length === 2 * COORDINATE_BYTES) return signature;
    return coordinates(signature);
  },
});

/**
 * Puts OPA's `.signatures.json` into a bundle, in place of one that is there.
 * @param keyId recorded in the signature for people and for OPA; agents choose by their own configuration
 * @returns the signed archive
 * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE for what is no bundle, ERR_POLICY_SIGNER, ERR_POLICY_SIGNATURE
 */
export const signBundle = async (
  bundle: Buffer,
  signer: BundleSigner,
  keyId: string | undefined,
): Promise<Buffer> => {
  await readBundle(bundle);
  const files = new Map(await readArchive(bundle));
  const input = signingInput(files, signer.algorithm, keyId);
  const signature = await signer.sign(Buffer.from(input));
  const { algorithm, publicKey } = signer;
  if (publicKey !== undefined && !isSignedBy({ algorithm, publicKey }, Buffer.from(input), signature)) {
    throw badSigner('what the signer printed is not a signature by the given public key');
  }
  files.set(SIGNATURES_FILE, Buffer.from(signaturesText(input, signature)));
  return writeArchive(files);
};
