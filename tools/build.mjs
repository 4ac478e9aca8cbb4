// Strips the types from src/ into dist/, file by file: what bin/sallyport runs. `npm ci` calls it (script `prepare`),
// and so does bin/sallyport in a checkout whose sources have changed since.
//   node tools/build.mjs
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const source = join(root, 'src');
const output = join(root, 'dist');
const testSource = join(root, 'test');
const testOutput = join(root, 'dist-test');
const STAMP = join(output, 'built-from');
/** Where what is built to; both are as deep, so that a path from a file to the root stays true. */
const FOLDERS = [
  [source, output],
  [testSource, testOutput],
];

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

/** The file that a source is built to; undefined for what is in neither folder. */
const outputOf = (file) => {
  const folder = FOLDERS.find(([from]) => file.startsWith(`${from}${sep}`));
  return folder && join(folder[1], relative(folder[0], file)).replace(/\.ts$/, '.js');
};

/**
 * Relative imports name the source; in the output they name the output. Everything else is left as it is, but a file
 * that is not built (a test uses one of the benchmarks) becomes part of the file that imports it.
 */
const keepImports = {
  name: 'keep-imports',
  setup: (build) =>
    build.onResolve({ filter: /.*/ }, ({ kind, path, importer }) => {
      if (kind === 'entry-point') return undefined;
      if (!path.startsWith('.')) return { path, external: true };
      const [from, to] = [outputOf(importer), outputOf(join(dirname(importer), path))];
      if (to === undefined) return undefined;
      if (from === undefined)
        return { errors: [{ text: `${importer} is not built and may not import ${path}` }] };
      const named = relative(dirname(from), to).split(sep).join('/');
      return { path: named.startsWith('.') ? named : `./${named}`, external: true };
    }),
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

/** The same files without types, as `{ path, text }` below `outdir`. */
const stripTypes = async (sources, outbase, outdir) => {
  // Loaded only here: an up-to-date checkout starts without it.
  const esbuild = await import('esbuild');
  const { outputFiles } = await esbuild.build({
    entryPoints: sources,
    outbase,
    outdir,
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
  return outputFiles;
};

/** Makes these the files of the folder, and no others. */
const replaceFolder = (folder, files) => {
  for (const { path, text } of files) if (readIfThere(path) !== text) replaceFile(path, text);
  const written = new Set(files.map(({ path }) => path));
  for (const file of filesIn(folder)) {
    if (!written.has(file) && !IN_THE_MAKING.test(file)) rmSync(file, { force: true });
  }
};

const build = async (sources, digest) => {
  const files = await stripTypes(sources, source, output);
  rmSync(STAMP, { force: true });
  replaceFolder(output, files);
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

/**
 * Builds the tests, always: there is no stamp that could be wrong. Their imports of `src/` become imports of `dist/`,
 * which is built before; what is no TypeScript is copied. Returns the folder of the output.
 */
export const buildTests = async () => {
  await buildIfChanged();
  const all = filesIn(testSource);
  const isTypeScript = (file) => file.endsWith('.ts');
  const built = await stripTypes(all.filter(isTypeScript), testSource, testOutput);
  const copied = all
    .filter((file) => !isTypeScript(file))
    .map((file) => ({
      path: join(testOutput, relative(testSource, file)),
      text: readFileSync(file, 'utf8'),
    }));
  replaceFolder(testOutput, [...built, ...copied]);
  return testOutput;
};

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildIfChanged();
