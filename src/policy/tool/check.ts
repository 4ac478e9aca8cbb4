import { existsSync } from 'node:fs';
import { delimiter, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { environment } from '../../runtime/index.ts';
import { readRuleHeads } from './catalog.ts';
import { lintConnections } from './connection-lints.ts';
import type { Diagnostic } from './diagnostic.ts';
import { lintGrants } from './grants-lints.ts';
import { checkLibrary, LIBRARY_FILES } from './library.ts';
import { lintLimits } from './limits-lints.ts';
import { lintHeads, lintText } from './lints.ts';
import { runTool } from './opa.ts';
import { SHIPPED_POLICIES, TOOL_DIRECTORY } from './paths.ts';
import { lintRuleSets } from './rule-set-lints.ts';
import { IGNORE_ARGS, IGNORE_BUT_TESTS, isTestFile, POLICY_ROOT, regoFiles } from './sources.ts';
import { lintTrustAndCost } from './trust-lints.ts';
import { lintUnread } from './unread-lints.ts';
import { lintVectorInputs } from './vector-inputs.ts';
import { lintVectors } from './vectors.ts';

interface OpaError {
  readonly message: string;
  readonly location?: { readonly file: string; readonly row: number; readonly col: number };
}

const relativeTo = (directory: string, file: string): string =>
  (isAbsolute(file) ? relative(directory, file) : file).split(sep).join('/');

const whole = (rule: string, message: string): Diagnostic => ({
  file: '.',
  line: 1,
  column: 1,
  rule,
  message,
});

/** `opa check --format json` prints its errors as one document on stderr. */
const errorsOf = (text: string): readonly OpaError[] | undefined => {
  try {
    return (JSON.parse(text) as { errors?: readonly OpaError[] }).errors;
  } catch {
    return undefined;
  }
};

const diagnosticsOf = (directory: string, stderr: string, stdout: string): Diagnostic[] => {
  const errors = errorsOf(stderr) ?? errorsOf(stdout);
  if (errors === undefined) return [whole('opa', (stderr || stdout).trim())];
  return errors.map(({ message, location }) => ({
    file: relativeTo(directory, location?.file ?? '.'),
    line: location?.row ?? 1,
    column: Math.max(1, location?.col ?? 1),
    rule: 'opa',
    message,
  }));
};

const opaCheck = async (directory: string, opa: string): Promise<Diagnostic[]> => {
  const schemas = ['--schema', join(SHIPPED_POLICIES, 'schemas')];
  const capabilities = ['--capabilities', join(SHIPPED_POLICIES, 'capabilities.json')];
  const args = ['check', '--strict', '--format', 'json', ...schemas, ...capabilities, '-b', '.'];
  const { status, stdout, stderr } = await runTool(opa, [...args, ...IGNORE_ARGS], directory);
  return status === 0 ? [] : diagnosticsOf(directory, stderr, stdout);
};

/** What is wrong in the tests: they may call what rules may not, so they are compiled without those limits. */
const opaCheckTests = async (directory: string, opa: string): Promise<Diagnostic[]> => {
  const args = ['check', '--format', 'json', '-b', '.', ...IGNORE_BUT_TESTS];
  const { status, stdout, stderr } = await runTool(opa, args, directory);
  return status === 0 ? [] : diagnosticsOf(directory, stderr, stdout).filter(({ file }) => isTestFile(file));
};

const opaFormat = async (directory: string, opa: string): Promise<Diagnostic[]> => {
  const { stdout, stderr, status } = await runTool(opa, ['fmt', '--list', POLICY_ROOT], directory);
  const files = stdout.split('\n').filter((line) => line !== '');
  if (status !== 0 && files.length === 0) return [whole('fmt', stderr.trim())];
  return files.map((file) => ({
    file: relativeTo(directory, file),
    line: 1,
    column: 1,
    rule: 'fmt',
    message: "file is not formatted; run 'opa fmt --write'",
  }));
};

const REGAL = 'regal ';

interface RegalReport {
  readonly violations?: readonly {
    readonly title: string;
    readonly description: string;
    readonly location: { readonly file: string; readonly row: number; readonly col: number };
  }[];
}

/** Regal: SALLYPORT_REGAL, then `regal` on PATH, then `.tools/regal`; undefined when there is none. */
export const findRegal = (): string | undefined => {
  const named = environment['SALLYPORT_REGAL'];
  if (named !== undefined && named !== '') return existsSync(named) ? named : undefined;
  const onPath = (environment['PATH'] ?? '').split(delimiter).filter((directory) => directory !== '');
  return [...onPath, TOOL_DIRECTORY]
    .map((directory) => join(directory, 'regal'))
    .find((file) => existsSync(file));
};

/** Regal's findings, where there is Regal. */
const regal = async (directory: string): Promise<Diagnostic[]> => {
  const tool = findRegal();
  if (tool === undefined) return [];
  const config = ['--config-file', join(SHIPPED_POLICIES, '.regal/config.yaml')];
  const { stdout, stderr } = await runTool(
    tool,
    ['lint', '--format', 'json', ...config, POLICY_ROOT],
    directory,
  );
  let report: RegalReport;
  try {
    report = JSON.parse(stdout) as RegalReport;
  } catch {
    return [whole('regal', stderr.trim() || 'regal printed no report')];
  }
  return (report.violations ?? []).map(({ title, description, location }) => ({
    file: relativeTo(directory, location.file),
    line: location.row,
    column: location.col,
    rule: `${REGAL}${title}`,
    message: description,
  }));
};

/**
 * True for what keeps a directory from being built. Regal's rules of style are not: where there is no Regal nothing says
 * them, and the same sources must not build on one machine and fail on another.
 */
export const isRefusal = ({ severity, rule }: Diagnostic): boolean =>
  severity !== 'warning' && !rule.startsWith(REGAL);

/**
 * Everything `policy check` finds in a policy directory, in order of file and line.
 * @param opa path of the OPA executable; see findOpa
 * @throws AppError ERR_POLICY_SOURCE when the directory cannot be read
 */
export const checkPolicies = async (directory: string, opa: string): Promise<Diagnostic[]> => {
  const root = resolve(directory);
  const files = regoFiles(root);
  const compiled = await opaCheck(root, opa);
  // Where OPA's parser fails, its own errors say all there is to say.
  const heads = await readRuleHeads(opa, root, files).catch(() => undefined);
  const authored = files.filter((file) => !LIBRARY_FILES.includes(file) && !isTestFile(file));
  const found = [
    ...checkLibrary(root),
    ...compiled,
    ...(compiled.length > 0 ? [] : await opaCheckTests(root, opa)),
    ...(heads === undefined ? [] : await opaFormat(root, opa)),
    ...(heads === undefined ? [] : await regal(root)),
    ...lintHeads(heads ?? []),
    ...lintLimits(heads ?? []),
    ...lintRuleSets(root, authored, heads ?? []),
    ...lintConnections(root, heads ?? []),
    ...lintUnread(root),
    ...authored.flatMap((file) => lintText(root, file)),
    ...lintTrustAndCost(root, authored),
    ...lintGrants(root, heads ?? []),
    ...lintVectors(root),
    ...(await lintVectorInputs(opa, root)),
  ];
  return found.sort((a, b) => a.file.localeCompare(b.file) || a.line - b.line || a.column - b.column);
};
