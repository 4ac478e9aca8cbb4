import { execFile } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { AppError, environment, foreignCodeOf, messageOf } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';
import { TOOL_DIRECTORY } from './paths.ts';

/** The version that the shipped bundle is built with; older ones are not used. */
export const OPA_VERSION = '1.22.2';

const TIME_LIMIT_MS = 120_000;
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

export interface ToolRun {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a tool to its end; a status other than 0 is a result, not an error. @throws the spawn's own error */
export const runTool = (file: string, args: readonly string[], cwd: string): Promise<ToolRun> =>
  new Promise((resolve, reject) => {
    const options = { cwd, timeout: TIME_LIMIT_MS, maxBuffer: MAX_OUTPUT_BYTES };
    execFile(file, args, options, (error, stdout, stderr) => {
      const failed: (Error & { code?: unknown }) | null = error;
      if (failed === null) resolve({ status: 0, stdout, stderr });
      else if (typeof failed.code === 'number') resolve({ status: failed.code, stdout, stderr });
      else reject(failed);
    });
  });

const numbersOf = (version: string): number[] => version.split('.').map(Number);

const isAtLeast = (version: string, pin: string): boolean => {
  const [have, want] = [numbersOf(version), numbersOf(pin)];
  const at = want.findIndex((number, index) => number !== have[index]);
  return at === -1 || (have[at] ?? 0) > (want[at] ?? 0);
};

/** The version of an opa executable, or undefined when there is none at that path. */
const versionOf = async (file: string): Promise<string | undefined> => {
  try {
    const { stdout } = await runTool(file, ['version'], '.');
    return /^Version: (\d+\.\d+\.\d+)/m.exec(stdout)?.[1];
  } catch (thrown) {
    if (foreignCodeOf(thrown) === 'ENOENT' || foreignCodeOf(thrown) === 'EACCES') return undefined;
    throw thrown;
  }
};

const candidates = (): string[] => {
  const named = environment['SALLYPORT_OPA'];
  if (named !== undefined && named !== '') return [named];
  const onPath = (environment['PATH'] ?? '').split(delimiter).filter((directory) => directory !== '');
  return [...onPath.map((directory) => join(directory, 'opa')), join(TOOL_DIRECTORY, 'opa')];
};

/**
 * Finds OPA: SALLYPORT_OPA, then `opa` on PATH, then `.tools/opa`.
 * @throws AppError ERR_POLICY_OPA_MISSING with the remedy when none is new enough
 */
export const findOpa = async (): Promise<string> => {
  const tooOld: string[] = [];
  for (const file of candidates()) {
    const version = await versionOf(file);
    if (version === undefined) continue;
    if (isAtLeast(version, OPA_VERSION)) return file;
    tooOld.push(`${file} is ${version}`);
  }
  const named = environment['SALLYPORT_OPA'] ?? '';
  const none = named === '' ? 'none was found' : `SALLYPORT_OPA names ${named}, which is no OPA that runs`;
  const found = tooOld.length === 0 ? none : tooOld.join(', ');
  throw new AppError<PolicyErrorCode>(
    'ERR_POLICY_OPA_MISSING',
    `compiling or checking Rego needs OPA ${OPA_VERSION} or newer; ${found}. ` +
      'install it from openpolicyagent.org, or set SALLYPORT_OPA to its path, or, with Go installed, ' +
      "run 'node tools/build-policy-tools.mjs'. grants need no OPA: a grants file is reloaded live",
  );
};

/**
 * Runs OPA and returns what it printed.
 * @throws AppError ERR_POLICY_BUILD with OPA's own message when it fails
 */
export const runOpa = async (opa: string, args: readonly string[], cwd: string): Promise<string> => {
  const run = await runTool(opa, args, cwd).catch((cause: unknown) => {
    throw new AppError<PolicyErrorCode>('ERR_POLICY_BUILD', `opa does not run: ${messageOf(cause)}`, {
      cause,
    });
  });
  if (run.status === 0) return run.stdout;
  const said = (run.stderr || run.stdout).trim();
  throw new AppError<PolicyErrorCode>('ERR_POLICY_BUILD', `opa ${args[0] ?? ''} fails: ${said}`);
};
