import { createHash } from 'node:crypto';
import { z } from 'zod';
import { AppError, messageOf, schemaProblems } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';
import { INPUT_VERSION } from '../input.ts';
import { type ArchiveFiles, readArchive } from './archive.ts';
import {
  SIGNATURES_FILE,
  type VerificationKey,
  type VerifiedSignature,
  verifySignature,
} from './signature.ts';

/** Names of the files a bundle is made of. */
export const BUNDLE_FILE = {
  manifest: '.manifest',
  signatures: SIGNATURES_FILE,
  wasm: 'policy.wasm',
  data: 'data.json',
  vectors: 'vectors.json',
  catalog: 'catalog.json',
} as const;

const manifestSchema = z.looseObject({
  revision: z.string().max(256),
  roots: z.array(z.string()).min(1),
  rego_version: z.number().int().optional(),
  wasm: z.array(z.object({ entrypoint: z.string(), module: z.string() }).loose()).optional(),
  metadata: z
    .object({
      sallyport: z.object({ input: z.literal(INPUT_VERSION), sequence: z.number().int().positive() }).loose(),
    })
    .loose(),
});

/** One vector, as authors write it and as bundles hold it. */
export const vectorSchema = z.strictObject({
  name: z.string().min(1),
  input: z.looseObject({
    action: z.enum(['publish', 'stream']),
    target: z.looseObject({ address: z.string() }),
  }),
  expect: z.strictObject({
    allow: z.boolean(),
    rule: z.string().nullable().optional(),
    /** Every one of these codes must be among the reasons. */
    reasons: z.array(z.string()).optional(),
  }),
});

const catalogSchema = z.array(
  z.strictObject({
    id: z.string(),
    action: z.enum(['publish', 'stream', 'deny', 'limits']),
    connection: z.string(),
    title: z.string(),
    owner: z.string(),
    ticket: z.string().optional(),
    expires: z.string().optional(),
    file: z.string(),
    line: z.number().int(),
  }),
);

/** An input with the decision its author expects; run before every activation. */
export type Vector = z.infer<typeof vectorSchema>;
/** One rule of the bundle, for `policy inspect` and the report of unused rules. */
export type CatalogEntry = z.infer<typeof catalogSchema>[number];

/** A bundle whose archive and manifest are in order; nothing of it has run yet. */
export interface Bundle {
  /** Of the archive. */
  readonly sha256: string;
  /** Of what the archive holds apart from its signature: the same when it is signed anew. */
  readonly contentSha256: string;
  readonly bytes: Buffer;
  readonly revision: string;
  readonly sequence: number;
  readonly module: WebAssembly.Module;
  readonly dataText: string;
  readonly vectors: readonly Vector[];
  readonly catalog: readonly CatalogEntry[];
  /** Whether there is a signature, verified or not. */
  readonly signed: boolean;
  /** The configured id of the key that verified the signature. */
  readonly signedBy: string | undefined;
  /** That key; undefined when none was asked for. */
  readonly signer: VerificationKey | undefined;
}

/** Whose signatures count when a bundle is read. */
export interface BundleTrust {
  readonly keys: readonly VerificationKey[];
  /** Refuses bundles without a signature by one of the keys. */
  readonly requireSigned: boolean;
}

const TRUSTS_ALL: BundleTrust = { keys: [], requireSigned: false };

const broken = (what: string, cause?: unknown): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_BUNDLE', what, { cause });

const fileOf = (files: ArchiveFiles, name: string): Buffer => {
  const content = files.get(name);
  if (content === undefined) {
    throw broken(`bundle lacks ${name}; build it with 'sallyport policy build'`);
  }
  return content;
};

const parseJson = <T>(text: string, name: string, schema: z.ZodType<T>): T => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw broken(`${name} is not json: ${messageOf(cause)}`, cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problem = schemaProblems(parsed.error.issues, schema)[0];
  const where = problem?.path.join('.') ?? '';
  throw broken(`${name}: ${where === '' ? '' : `${where}: `}${problem?.message ?? 'is malformed'}`);
};

/** Parses the manifest alone. @throws AppError ERR_POLICY_BUNDLE */
export const parseManifest = (text: string): z.infer<typeof manifestSchema> =>
  parseJson(text, BUNDLE_FILE.manifest, manifestSchema);

/** A signature is looked at when there are keys; with none it is left alone unless one is required. */
const checkSignature = async (
  files: ArchiveFiles,
  { keys, requireSigned }: BundleTrust,
): Promise<VerifiedSignature | undefined> => {
  const isSigned = files.has(BUNDLE_FILE.signatures);
  if (isSigned ? keys.length > 0 : requireSigned && keys.length > 0) return verifySignature(files, keys);
  if (!requireSigned) return undefined;
  throw new AppError<PolicyErrorCode>(
    'ERR_POLICY_UNSIGNED',
    'require_signed is set and policy.keys names no key that a signature could be verified by',
  );
};

const contentDigest = (files: ArchiveFiles): string => {
  const digest = createHash('sha256');
  for (const name of [...files.keys()].sort()) {
    if (name === BUNDLE_FILE.signatures) continue;
    const content = files.get(name) ?? Buffer.alloc(0);
    digest.update(`${name}\0${String(content.length)}\0`).update(content);
  }
  return digest.digest('hex');
};

/**
 * Reads a bundle as far as possible without running it; the wasm is compiled off the event loop.
 * Its signature comes first: of what was not signed nothing is parsed.
 * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE, ERR_POLICY_UNSIGNED, ERR_POLICY_SIGNATURE
 */
export const readBundle = async (bytes: Buffer, trust: BundleTrust = TRUSTS_ALL): Promise<Bundle> => {
  const files = await readArchive(bytes);
  const verified = await checkSignature(files, trust);
  // Of structured files the signature covers the meaning, so the very text that was hashed is what is used.
  const textOf = (name: string): string =>
    verified?.structured.get(name) ?? fileOf(files, name).toString('utf8');
  const manifest = parseManifest(textOf(BUNDLE_FILE.manifest));
  const outside = manifest.roots.find((root) => root !== 'sallyport' && !root.startsWith('sallyport/'));
  if (outside !== undefined) throw broken(`bundle root '${outside}' is outside of sallyport`);
  const vectors = files.get(BUNDLE_FILE.vectors);
  const catalog = files.get(BUNDLE_FILE.catalog);
  let module: WebAssembly.Module;
  try {
    module = await WebAssembly.compile(new Uint8Array(fileOf(files, BUNDLE_FILE.wasm)));
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw broken(`${BUNDLE_FILE.wasm} does not compile: ${messageOf(cause)}`, cause);
  }
  return {
    sha256: createHash('sha256').update(bytes).digest('hex'),
    contentSha256: contentDigest(files),
    bytes,
    revision: manifest.revision,
    sequence: manifest.metadata.sallyport.sequence,
    module,
    dataText: textOf(BUNDLE_FILE.data),
    vectors:
      vectors === undefined
        ? []
        : parseJson(vectors.toString('utf8'), BUNDLE_FILE.vectors, z.array(vectorSchema)),
    catalog:
      catalog === undefined ? [] : parseJson(catalog.toString('utf8'), BUNDLE_FILE.catalog, catalogSchema),
    signed: files.has(BUNDLE_FILE.signatures),
    signedBy: verified?.keyId,
    signer: trust.keys.find(({ id }) => id === verified?.keyId),
  };
};

/** The sequence of a bundle, whoever signed it. @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE */
export const readSequence = async (bytes: Buffer): Promise<number> => {
  const files = await readArchive(bytes);
  return parseManifest(fileOf(files, BUNDLE_FILE.manifest).toString('utf8')).metadata.sallyport.sequence;
};
