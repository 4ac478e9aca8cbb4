import { z } from 'zod';
import { readArchive } from '../bundle/archive.ts';
import { BUNDLE_FILE, type CatalogEntry, parseManifest, readBundle } from '../bundle/bundle.ts';
import { ENTRYPOINT } from '../engine/messages.ts';
import { grantsOf } from './bundle-grants.ts';
import { runTrial } from './trial.ts';

/** What a signature of a bundle says of itself; nothing of it has been verified. */
export interface ClaimedSignature {
  readonly keyId: string | undefined;
  readonly algorithm: string | undefined;
  /** Files it covers. */
  readonly files: number;
}

export interface Inspection {
  /** Hex SHA-256 of the archive, as decisions record it. */
  readonly sha256: string;
  readonly bytes: number;
  readonly sequence: number;
  readonly revision: string;
  readonly roots: readonly string[];
  readonly signatures: readonly ClaimedSignature[];
  readonly files: readonly { readonly name: string; readonly bytes: number }[];
  readonly catalog: readonly CatalogEntry[];
  readonly vectors: number;
  /** Grants in the bundle's own data. */
  readonly grants: number;
  /** Builtins that it needs from a host; an agent has none, and refuses it unless this is empty. */
  readonly builtins: readonly string[];
  /** What else keeps it from being started. */
  readonly problem: string | undefined;
}

const signaturesSchema = z.object({ signatures: z.array(z.string()) });
const headerSchema = z.object({ alg: z.string().optional(), kid: z.string().optional() });
const payloadSchema = z.object({ files: z.array(z.unknown()).optional(), keyid: z.string().optional() });

const partOf = <T>(token: string, index: number, schema: z.ZodType<T>): T | undefined => {
  try {
    return schema.parse(JSON.parse(Buffer.from(token.split('.')[index] ?? '', 'base64url').toString('utf8')));
  } catch {
    return undefined;
  }
};

/** OPA names the key in the payload (`keyid`), other signers in the header (`kid`). */
const claimedSignatures = (content: Buffer | undefined): ClaimedSignature[] => {
  if (content === undefined) return [];
  let tokens: readonly string[];
  try {
    tokens = signaturesSchema.parse(JSON.parse(content.toString('utf8'))).signatures;
  } catch {
    return [{ keyId: undefined, algorithm: undefined, files: 0 }];
  }
  return tokens.map((token) => {
    const header = partOf(token, 0, headerSchema);
    const payload = partOf(token, 1, payloadSchema);
    return {
      keyId: payload?.keyid ?? header?.kid,
      algorithm: header?.alg,
      files: payload?.files?.length ?? 0,
    };
  });
};

/**
 * What a bundle is, without trusting it: it is read within bounds and started in a thread of its own.
 * @throws AppError ERR_POLICY_ARCHIVE, ERR_POLICY_BUNDLE
 */
export const inspectBundle = async (bytes: Buffer): Promise<Inspection> => {
  const bundle = await readBundle(bytes);
  const files = await readArchive(bytes);
  const { roots } = parseManifest(files.get(BUNDLE_FILE.manifest)?.toString('utf8') ?? '');
  const { module, dataText } = bundle;
  const trial = await runTrial({
    program: { module, dataText },
    entrypoint: ENTRYPOINT.stream,
    inputs: [],
  });
  return {
    sha256: bundle.sha256,
    bytes: bytes.length,
    sequence: bundle.sequence,
    revision: bundle.revision,
    roots,
    signatures: claimedSignatures(files.get(BUNDLE_FILE.signatures)),
    files: [...files].map(([name, content]) => ({ name, bytes: content.length })),
    catalog: bundle.catalog,
    vectors: bundle.vectors.length,
    grants: grantsOf(dataText).length,
    builtins: trial.kind === 'builtins' ? trial.names : [],
    problem: trial.kind === 'failed' ? trial.detail : undefined,
  };
};
