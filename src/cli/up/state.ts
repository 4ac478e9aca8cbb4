import { chmodSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import {
  AppError,
  foreignCodeOf,
  makePrivateDirectory,
  messageOf,
  randomBytes,
  writeFileAtomically,
} from '../../runtime/index.ts';

/** Where `up` keeps everything unless told otherwise, under the current directory. */
export const DEFAULT_STATE_DIRECTORY = '.sallyport';
const STATE_VERSION = 1;
const PASSWORD_BYTES = 24;
/** Postgres runs as another user when we are root, and must be able to pass through. */
const PASSABLE_MODE = 0o711;
const PRIVATE_MODE = 0o700;

const identitySchema = z.strictObject({ pid: z.number().int(), started: z.string() });
const stateSchema = z.strictObject({
  version: z.literal(STATE_VERSION),
  /** Remembered loopback ports by what listens there. */
  ports: z.record(z.string(), z.number().int().min(1).max(65_535)),
  /** Passwords of database roles by role. */
  passwords: z.record(z.string(), z.string()),
  /** The processes of the start that wrote this, so that the next one can wait for them. */
  processes: z.array(identitySchema).readonly(),
  /** Data of the embedded PostgreSQL; absent before its first start. */
  database_directory: z.string().optional(),
  /** Sequence and content digest of the last bundle that `up` made. */
  policy: z.strictObject({ sequence: z.number().int().min(0), digest: z.string() }),
});

/** What is remembered between starts. A secret. */
export type UpState = z.infer<typeof stateSchema>;

/** Paths inside the state directory. */
export interface StatePaths {
  readonly root: string;
  readonly stateFile: string;
  readonly readyFile: string;
  readonly logDirectory: string;
  readonly connectionDirectory: string;
  readonly bundleFile: string;
  log(name: string): string;
  config(name: 'relay' | 'agent' | 'gateway'): string;
  file(name: string): string;
}

export const statePaths = (directory: string): StatePaths => {
  const root = resolve(directory);
  const inside = (...parts: string[]): string => join(root, ...parts);
  return {
    root,
    stateFile: inside('state.json'),
    readyFile: inside('ready.json'),
    logDirectory: inside('log'),
    connectionDirectory: inside('connections'),
    bundleFile: inside('policy', 'bundle.tar.gz'),
    log: (name) => inside('log', `${name}.log`),
    config: (name) => inside(`${name}.yaml`),
    file: (name) => inside(name),
  };
};

const unusable = (path: string, error: unknown): AppError =>
  new AppError('ERR_CLI_STATE', `cannot use ${path}: ${foreignCodeOf(error) ?? messageOf(error)}`, {
    cause: error,
  });

/**
 * Makes the state directory, or takes the one that is there.
 * @throws AppError ERR_CLI_STATE when it is no directory of ours or cannot be written
 */
export const openStateDirectory = (directory: string): StatePaths => {
  const paths = statePaths(directory);
  try {
    mkdirSync(paths.root, { recursive: true, mode: PRIVATE_MODE });
    if (!statSync(paths.root).isDirectory()) throw new Error('it is not a directory');
    chmodSync(paths.root, process.getuid?.() === 0 ? PASSABLE_MODE : PRIVATE_MODE);
    for (const below of [paths.logDirectory, paths.connectionDirectory, paths.file('policy')]) {
      makePrivateDirectory(below);
    }
  } catch (error) {
    throw unusable(paths.root, error);
  }
  return paths;
};

/** Reads what an earlier start left. @throws AppError ERR_CLI_STATE */
export const readState = (paths: StatePaths): UpState => {
  const { stateFile } = paths;
  if (!existsSync(stateFile)) {
    return {
      version: STATE_VERSION,
      ports: {},
      passwords: {},
      processes: [],
      policy: { sequence: 0, digest: '' },
    };
  }
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(stateFile, 'utf8'));
  } catch (error) {
    // The parser quotes the text around the error, which may be a password.
    throw unusable(stateFile, error instanceof SyntaxError ? new Error('it is not JSON') : error);
  }
  const parsed = stateSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const where = parsed.error.issues.map((issue) => issue.path.join('.') || '(top)').join(', ');
  throw new AppError('ERR_CLI_STATE', `cannot use ${stateFile}: not of the expected form at ${where}`);
};

export const writeState = (paths: StatePaths, state: UpState): void =>
  writeFileAtomically(paths.stateFile, `${JSON.stringify(state, null, 2)}\n`);

/** The password of a role, made at first use. */
export const passwordOf = (state: UpState, role: string): string => {
  state.passwords[role] ??= randomBytes(PASSWORD_BYTES).toString('base64url');
  return state.passwords[role];
};
