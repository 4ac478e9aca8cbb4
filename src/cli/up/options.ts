import { AppError, environment, withAbsoluteFiles } from '../../runtime/index.ts';
import { type Publication, parseListens, parsePublications } from '../deploy/publication.ts';
import type { HostPort } from '../../runtime/index.ts';
import { DEFAULT_STATE_DIRECTORY } from './state.ts';

/** As commander gives them. */
export interface UpArguments {
  readonly state?: string;
  readonly publish?: readonly string[];
  readonly listen?: readonly string[];
  readonly policy?: string;
  readonly bundle?: string;
  readonly database?: string;
  readonly readyFile?: string;
  readonly selfTest?: boolean;
}

/** Names that `up` gives to what it publishes by itself. */
export const AUDIT_CONNECTION = 'audit-db';
export const FORBIDDEN_CONNECTION = 'forbidden';
export const SELF_TEST_CONNECTION = 'self-test';
/** TEST-NET-1 (RFC 5737): nobody is there, and policy denies it before anyone would find out. */
export const FORBIDDEN_TARGET: HostPort = { host: '192.0.2.10', port: 5432 };

export type PolicyChoice =
  | { readonly kind: 'generated' }
  | { readonly kind: 'directory'; readonly directory: string }
  | { readonly kind: 'bundle'; readonly file: string };

/** What one `up` was asked to do. */
export interface UpOptions {
  readonly stateDirectory: string;
  /** What `--publish` names. */
  readonly publications: readonly Publication[];
  /** Whether `audit-db` and `forbidden` are published as well. */
  readonly withExamples: boolean;
  readonly listens: ReadonlyMap<string, HostPort>;
  readonly policy: PolicyChoice;
  /** Undefined: the embedded server. */
  readonly databaseUrl: string | undefined;
  readonly readyFile: string | undefined;
  readonly selfTest: boolean;
}

const policyOf = (given: UpArguments): PolicyChoice => {
  if (given.policy !== undefined && given.bundle !== undefined) {
    throw new AppError('ERR_CLI_USAGE', '--policy and --bundle exclude each other; give one');
  }
  if (given.policy !== undefined) return { kind: 'directory', directory: given.policy };
  if (given.bundle !== undefined) return { kind: 'bundle', file: given.bundle };
  return { kind: 'generated' };
};

const databaseOf = (given: UpArguments): string | undefined => {
  const url = given.database ?? environment['DATABASE_URL'];
  if (url === undefined || url === '') return undefined;
  requireDatabaseUrl(url);
  return withAbsoluteFiles(url);
};

/** @throws AppError ERR_CLI_USAGE without quoting the URL, which holds a password */
export const requireDatabaseUrl = (url: string): URL => {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !['postgres:', 'postgresql:'].includes(parsed.protocol)) {
    throw new AppError(
      'ERR_CLI_USAGE',
      'the database is not a URL of the form postgres://user:password@host:port/name',
    );
  }
  return parsed;
};

/** @throws AppError ERR_CLI_USAGE, ERR_CONFIG_HOST_PORT */
export const readUpOptions = (given: UpArguments): UpOptions => {
  const publications = parsePublications(given.publish ?? []);
  const policy = policyOf(given);
  const selfTest = given.selfTest === true;
  if (selfTest && policy.kind !== 'generated') {
    throw new AppError(
      'ERR_CLI_USAGE',
      '--self-test checks the generated policy; it does not go with --policy or --bundle',
    );
  }
  const reserved = [AUDIT_CONNECTION, FORBIDDEN_CONNECTION, SELF_TEST_CONNECTION];
  const taken = publications.find(({ name }) => selfTest && reserved.includes(name));
  if (taken !== undefined) {
    throw new AppError('ERR_CLI_USAGE', `--self-test needs the name ${taken.name} for itself`);
  }
  const withExamples = publications.length === 0 || selfTest;
  const names = [
    ...publications.map(({ name }) => name),
    ...(withExamples ? [AUDIT_CONNECTION, FORBIDDEN_CONNECTION] : []),
  ];
  return {
    stateDirectory: given.state ?? DEFAULT_STATE_DIRECTORY,
    publications,
    withExamples,
    listens: parseListens(given.listen ?? [], names),
    policy,
    databaseUrl: databaseOf(given),
    readyFile: given.readyFile,
    selfTest,
  };
};
