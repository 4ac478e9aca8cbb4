import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { AppError, messageOf, writeFileAtomically } from '../../runtime/index.ts';
import { readArchive, writeArchive } from '../bundle/archive.ts';
import { BUNDLE_FILE } from '../bundle/bundle.ts';
import { ENTRYPOINT } from '../engine/messages.ts';
import type { PolicyErrorCode } from '../errors.ts';
import { catalogOf, readRuleHeads } from './catalog.ts';
import { diagnosticText } from './diagnostic.ts';
import { checkLibrary, LIBRARY_FILES } from './library.ts';
import { findOpa, runOpa } from './opa.ts';
import { SHIPPED_POLICIES } from './paths.ts';
import { IGNORE_ARGS, regoFiles } from './sources.ts';
import { readVectors } from './vectors.ts';

export interface BuildOptions {
  /** Path of the OPA executable; default: findOpa. */
  readonly opa?: string;
  /** Positive integer; default: `metadata.sallyport.sequence` of the directory's `.manifest`. */
  readonly sequence?: number;
  /** Default: the `.manifest`'s. */
  readonly revision?: string;
}

export interface BuiltBundle {
  readonly bytes: Buffer;
  readonly sequence: number;
  readonly revision: string;
  readonly rules: number;
  readonly vectors: number;
}

interface SourceManifest {
  readonly revision?: string;
  readonly metadata?: { readonly sallyport?: { readonly sequence?: number } };
}

/** Bundles hold no secret: whoever runs the agent may read them. */
const BUNDLE_MODE = 0o644;
/** The entrypoint that tells everything that was weighed; no agent asks it. */
export const EXPLAIN = 'sallyport/decision/explain';

const failure = (what: string, cause?: unknown): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_SOURCE', what, { cause });

const readManifest = (directory: string): SourceManifest => {
  const file = join(directory, BUNDLE_FILE.manifest);
  if (!existsSync(file)) return {};
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as SourceManifest;
  } catch (cause) {
    throw failure(`${file} is not json: ${messageOf(cause)}`, cause);
  }
};

const compile = async (directory: string, opa: string): Promise<Map<string, Buffer>> => {
  const scratch = mkdtempSync(join(tmpdir(), 'sallyport-build-'));
  try {
    const out = join(scratch, 'opa.tar.gz');
    const entrypoints = [...Object.values(ENTRYPOINT), EXPLAIN].flatMap((name) => ['-e', name]);
    const capabilities = ['--capabilities', join(SHIPPED_POLICIES, 'capabilities.json')];
    // From inside the directory, always as a bundle: paths are embedded in what comes out.
    const args = [
      'build',
      '-t',
      'wasm',
      '-b',
      '.',
      ...entrypoints,
      ...capabilities,
      ...IGNORE_ARGS,
      '-o',
      out,
    ];
    await runOpa(opa, args, directory);
    return new Map(await readArchive(readFileSync(out), { fromOpa: true }));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
};

interface CompiledManifest {
  readonly wasm?: readonly { readonly module: string }[];
}

/** OPA's manifest, with the module named as the archive names it: without a leading slash. */
const compiledManifest = (content: Buffer | undefined): CompiledManifest => {
  const compiled = JSON.parse(content?.toString('utf8') ?? '{}') as CompiledManifest;
  const wasm = (compiled.wasm ?? []).map((entry) => ({ ...entry, module: BUNDLE_FILE.wasm }));
  return { ...compiled, wasm };
};

/**
 * Compiles a policy directory into a bundle: `opa build`, then repacked with vectors, catalog and sequence. The
 * same sources and options give the same bytes everywhere.
 * @param out file to write, or undefined to return the bytes only
 * @throws AppError ERR_POLICY_OPA_MISSING, ERR_POLICY_BUILD with OPA's message, ERR_POLICY_SOURCE for a changed library or wrong options
 */
export const buildBundle = async (
  directory: string,
  out: string | undefined,
  options: BuildOptions = {},
): Promise<BuiltBundle> => {
  const root = resolve(directory);
  const foreign = checkLibrary(root);
  if (foreign.length > 0) throw failure(foreign.map(diagnosticText).join('\n'));
  const source = readManifest(root);
  const sequence = options.sequence ?? source.metadata?.sallyport?.sequence;
  if (!Number.isSafeInteger(sequence) || sequence === undefined || sequence < 1) {
    throw failure(
      `sequence ${String(sequence)} is not a positive integer; set it in .manifest or by --sequence`,
    );
  }
  const revision = options.revision ?? source.revision ?? `sequence ${String(sequence)}`;
  const vectors = readVectors(root).map(({ vector }) => vector);
  const opa = options.opa ?? (await findOpa());
  const catalog = catalogOf(await readRuleHeads(opa, root, regoFiles(root)));
  const files = await compile(root, opa);
  // OPA writes sources anew and drops some comments: lines of the catalog would then name others.
  for (const name of regoFiles(root)) {
    if (files.has(name) && !LIBRARY_FILES.includes(name)) files.set(name, readFileSync(join(root, name)));
  }
  const manifest = {
    ...compiledManifest(files.get(BUNDLE_FILE.manifest)),
    revision,
    metadata: { sallyport: { input: 1, sequence } },
  };
  files.set(BUNDLE_FILE.manifest, Buffer.from(JSON.stringify(manifest)));
  files.set(BUNDLE_FILE.vectors, Buffer.from(JSON.stringify(vectors)));
  files.set(BUNDLE_FILE.catalog, Buffer.from(JSON.stringify(catalog)));
  const bytes = writeArchive(files);
  if (out !== undefined) writeFileAtomically(out, bytes, BUNDLE_MODE);
  return { bytes, sequence, revision, rules: catalog.length, vectors: vectors.length };
};
