import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import {
  type BundleSigner,
  commandSigner,
  keySigner,
  MAX_KEY_ID,
  SIGNATURE_ALGORITHMS,
  type SignatureAlgorithm,
  signBundle,
} from '../../policy/index.ts';
import { AppError, messageOf, writeFileAtomically } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { outputOf } from '../output.ts';
import { readBundleArchive } from './bundle-argument.ts';

interface SignFlags {
  readonly key?: string;
  readonly signer?: string;
  readonly publicKey?: string;
  readonly keyId?: string;
  readonly alg?: string;
  readonly output?: string;
}

/** Bundles hold no secret: whoever runs the agent may read them. */
const BUNDLE_MODE = 0o644;

const usage = (what: string, cause?: unknown): AppError<CliErrorCode> =>
  new AppError('ERR_CLI_USAGE', what, { cause });

const read = (file: string): Buffer => {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw usage(`cannot read ${file}: ${messageOf(cause)}`, cause);
  }
};

const algorithmFrom = (text: string | undefined): SignatureAlgorithm | undefined => {
  const algorithm = SIGNATURE_ALGORITHMS.find((known) => known === text);
  if (text === undefined || algorithm !== undefined) return algorithm;
  throw usage(`--alg is ${SIGNATURE_ALGORITHMS.join(' or ')}, not ${JSON.stringify(text)}`);
};

const publicKeyFrom = (file: string | undefined): KeyObject | undefined => {
  if (file === undefined) return undefined;
  try {
    return createPublicKey(read(file));
  } catch (cause) {
    throw usage(`${file} is not a public key in pem`, cause);
  }
};

const signerFrom = ({ key, signer, publicKey, alg }: SignFlags): BundleSigner => {
  const algorithm = algorithmFrom(alg);
  if ((key === undefined) === (signer === undefined)) throw usage('give either --key FILE or --signer CMD');
  if (key !== undefined) {
    if (publicKey !== undefined) throw usage('--public-key is for --signer; a key checks itself');
    return keySigner(read(key).toString('utf8'), algorithm, key);
  }
  if (algorithm === undefined)
    throw usage('--signer needs --alg: what its key signs cannot be seen from here');
  return commandSigner(signer ?? '', algorithm, publicKeyFrom(publicKey));
};

const sign = async (bundle: string, flags: SignFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const { keyId } = flags;
  if (keyId === '' || (keyId?.length ?? 0) > MAX_KEY_ID) {
    throw usage(`--key-id has 1 to ${String(MAX_KEY_ID)} characters`);
  }
  const signer = signerFrom(flags);
  const bytes = await signBundle(readBundleArchive(bundle), signer, keyId);
  const file = resolve(flags.output ?? bundle);
  writeFileAtomically(file, bytes, BUNDLE_MODE);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  output.document({ file, bytes: bytes.length, sha256, algorithm: signer.algorithm, key_id: keyId ?? null });
  output.line(`${file}: signed by ${signer.algorithm}${keyId === undefined ? '' : `, key id ${keyId}`}`);
  output.line(`sha256 ${sha256}: what agents, decisions and the audit trail call it`);
};

/** `sallyport policy sign` */
export const signCommand = (policy: Command): void => {
  policy
    .command('sign')
    .summary('put a signature into a bundle')
    .description(
      "Puts OPA's .signatures.json into a bundle, in place of one that is there. Connects to nothing, needs no opa. " +
        'A --signer command reads the bytes to sign on standard input and prints the signature over their SHA-256 ' +
        'in base64 (ES256: r and s, or DER).',
    )
    .argument('<bundle>', 'as policy build writes it')
    .option('--key <file>', 'private key in PEM: RSA of 2048 bits or more, or P-256')
    .option('--signer <cmd>', 'a command that signs, for keys that are kept elsewhere')
    .option('--public-key <file>', 'with --signer: check what it printed')
    .option('--key-id <id>', "recorded in the signature; agents go by their own configuration's keys")
    .option('--alg <name>', `${SIGNATURE_ALGORITHMS.join(' or ')}; default: what the key signs`)
    .option('-o, --output <file>', 'where to write; default: over the bundle')
    .action(sign);
};
