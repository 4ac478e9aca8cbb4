// Strips the types from src/ into dist/, file by file: what bin/sallyport runs. `npm ci` calls it (script `prepare`),
// and so does bin/sallyport in a checkout whose sources have changed since.
//   node tools/build.mjs
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const source = join(root, 'src');
const output = join(root, 'dist');
const STAMP = join(output, 'built-from');

const filesIn = (directory) =>
  readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();

/** Digest of everything that the output depends on; contents, because a copy keeps no times. */
const digestOf = (files) => {
  const digest = createHash('sha256');
  for (const file of [fileURLToPath(import.meta.url), ...files]) {
    digest.update(`${relative(root, file)}\0`).update(readFileSync(file));
  }
  return digest.digest('hex');
};

const readIfThere = (file) => {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
};

/** Relative imports name the source; in the output they name the output. Everything else is left as it is. */
const keepImports = {
  name: 'keep-imports',
  setup: (build) =>
    build.onResolve({ filter: /.*/ }, ({ kind, path }) =>
      kind === 'entry-point'
        ? undefined
        : { path: path.startsWith('.') ? path.replace(/\.ts$/, '.js') : path, external: true },
    ),
};

/** What another process is about to rename may not be taken away: several can build at a time. */
const IN_THE_MAKING = /\.\d+\.new$/;

/** Whole or not at all: another process may be reading it. */
const replaceFile = (file, text) => {
  mkdirSync(dirname(file), { recursive: true });
  const fresh = `${file}.${process.pid}.new`;
  writeFileSync(fresh, text);
  renameSync(fresh, file);
};

const build = async (sources, digest) => {
  // Loaded only here: an up-to-date checkout starts without it.
  const esbuild = await import('esbuild');
  const { outputFiles } = await esbuild.build({
    entryPoints: sources,
    outbase: source,
    outdir: output,
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    sourcemap: 'linked',
    logLevel: 'warning',
    plugins: [keepImports],
  });
  // Its helper process would otherwise live as long as this one, which may be a gateway's.
  await esbuild.stop();
  rmSync(STAMP, { force: true });
  for (const { path, text } of outputFiles) if (readIfThere(path) !== text) replaceFile(path, text);
  const written = new Set(outputFiles.map(({ path }) => path));
  for (const file of filesIn(output)) {
    if (!written.has(file) && !IN_THE_MAKING.test(file)) rmSync(file, { force: true });
  }
  replaceFile(STAMP, digest);
};

/** Builds unless the output is of these very sources. */
export const buildIfChanged = async () => {
  const sources = filesIn(source).filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'));
  const digest = digestOf(sources);
  if (readIfThere(STAMP) === digest) return;
  try {
    await build(sources, digest);
  } catch (error) {
    throw new Error(`cannot build ${output} from src: ${error.message}`, { cause: error });
  }
};

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildIfChanged();
