import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout, and the program as an operator calls it. */
export const projectRoot = fileURLToPath(new URL('../..', import.meta.url));
export const sallyportProgram = join(projectRoot, 'bin/sallyport');

export interface CommandResult {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Written to its standard input, which then ends. */
  readonly input?: string;
  readonly deadlineMs?: number;
}

const COMMAND_DEADLINE_MS = 300_000;

/** Runs a program to its end; never throws for an exit code. */
export const runCommand = (
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd ?? projectRoot,
      env: { ...process.env, NO_COLOR: '1', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString('utf8')));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString('utf8')));
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
    const deadlineMs = options.deadlineMs ?? COMMAND_DEADLINE_MS;
    const late = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`${program} ${args.join(' ')} ran over ${deadlineMs} ms:\n${stdout}\n${stderr}`));
    }, deadlineMs);
    child.on('error', (error) => {
      clearTimeout(late);
      reject(error);
    });
    child.on('close', (code) => {
      clearTimeout(late);
      resolve({ code, stdout, stderr });
    });
  });

/** Runs `sallyport` with these arguments. */
export const sallyport = (args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> =>
  runCommand(process.execPath, [sallyportProgram, ...args], options);

const SEARCH = ['/usr/bin', '/usr/sbin', '/bin', '/sbin', '/usr/local/bin', '/usr/local/sbin'];

/** Where a program is, looking also where daemons are kept; undefined when it is not installed. */
export const findProgram = (name: string): string | undefined =>
  [...(process.env.PATH ?? '').split(':'), ...SEARCH]
    .map((directory) => join(directory, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });

/** For a test's `skip`: false when all are installed, else a line that names what is missing. */
export const missingPrograms = (packages: Readonly<Record<string, string>>): string | false => {
  const missing = Object.entries(packages).filter(([program]) => findProgram(program) === undefined);
  if (missing.length === 0) return false;
  return `missing ${missing.map(([program, debian]) => `${program} (Debian package ${debian})`).join(', ')}`;
};
