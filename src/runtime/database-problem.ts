import { accessSync, constants } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { AppError, foreignCodeOf, messageOf } from './errors.ts';
import { UNREACHABLE_PEER, UNTRUSTED_CERTIFICATE } from './foreign-codes.ts';
import { formatHostPort } from './host-port.ts';
import { cleanText } from './text.ts';

/** Parameters of a PostgreSQL URL that name files. */
const FILE_PARAMETERS = ['sslrootcert', 'sslcert', 'sslkey'] as const;
/** PostgreSQL's registered port, which a URL may leave out. */
const POSTGRES_PORT = 5432;
/** Longest part of a foreign certificate or answer that a message quotes, in UTF-16 code units. */
const MAX_QUOTED = 300;

/** Why a database was not connected to, in a sentence with the way out. Keeps the code of what it was made from. */
export class DatabaseProblem extends Error {
  readonly code: string | undefined;
  /** `configuration`: the URL or a file of it has to be changed; `unreachable`: the server may answer later. */
  readonly kind: 'configuration' | 'unreachable';

  constructor(kind: DatabaseProblem['kind'], message: string, cause: unknown) {
    super(message, { cause });
    this.name = 'DatabaseProblem';
    this.kind = kind;
    this.code = foreignCodeOf(cause);
  }
}

/** A file that a database URL names: parameter and path as written. */
interface NamedFile {
  readonly parameter: string;
  readonly path: string;
}

/** The files that a database URL names; none for what is not a URL. */
const filesOf = (databaseUrl: string): NamedFile[] => {
  if (!URL.canParse(databaseUrl)) return [];
  const { searchParams } = new URL(databaseUrl);
  return FILE_PARAMETERS.flatMap((parameter) => {
    const path = searchParams.get(parameter);
    return path === null || path === '' ? [] : [{ parameter, path }];
  });
};

/** What is wrong with the files that a database URL names, one sentence each. Relative paths are those of this process. */
export const databaseFileProblems = (databaseUrl: string): string[] =>
  filesOf(databaseUrl).flatMap(({ parameter, path }) => {
    try {
      accessSync(path, constants.R_OK);
      return [];
    } catch (error) {
      const where = isAbsolute(path)
        ? ''
        : ' (relative to where the process is started: give the whole path)';
      return [`${parameter} of the database URL: cannot read ${path}: ${codeOf(error)}${where}`];
    }
  });

/**
 * A database URL whose files are named by absolute paths, so that it means the same wherever it is used.
 * @throws AppError ERR_CLI_USAGE with code and path of a file that cannot be read; never quotes the URL
 */
export const withAbsoluteFiles = (databaseUrl: string): string => {
  const [problem] = databaseFileProblems(databaseUrl);
  if (problem !== undefined) throw new AppError('ERR_CLI_USAGE', problem);
  const relative = filesOf(databaseUrl).filter(({ path }) => !isAbsolute(path));
  if (relative.length === 0) return databaseUrl;
  const url = new URL(databaseUrl);
  for (const { parameter, path } of relative) url.searchParams.set(parameter, resolve(path));
  return url.href;
};

const codeOf = (error: unknown): string => foreignCodeOf(error) ?? messageOf(error);

const textOf = (error: unknown, key: 'path' | 'cert'): unknown =>
  typeof error === 'object' && error !== null ? (error as Record<string, unknown>)[key] : undefined;

const namesOf = (error: unknown): string => {
  const certificate = textOf(error, 'cert') as
    | { subjectaltname?: string; subject?: { CN?: string | string[] } }
    | undefined;
  const commonName = [certificate?.subject?.CN ?? []].flat().join(', ');
  const names = certificate?.subjectaltname ?? (commonName === '' ? 'no name' : `CN:${commonName}`);
  return cleanText(names, MAX_QUOTED);
};

/**
 * What the driver says about a connection, as a sentence with the way out; undefined when it is about something else.
 * The URL's password is never in it.
 */
export const databaseProblem = (thrown: unknown, databaseUrl: string): DatabaseProblem | undefined => {
  if (thrown instanceof DatabaseProblem) return thrown;
  if (!URL.canParse(databaseUrl)) return undefined;
  const url = new URL(databaseUrl);
  const host = url.hostname || (url.searchParams.get('host') ?? 'localhost');
  const address = host.startsWith('/')
    ? host
    : formatHostPort({ host: host.replace(/^\[|\]$/g, ''), port: Number(url.port || POSTGRES_PORT) });
  const login = JSON.stringify(decodeURIComponent(url.username));
  const rootFile = url.searchParams.get('sslrootcert');
  const configuration = (text: string): DatabaseProblem => new DatabaseProblem('configuration', text, thrown);
  const code = foreignCodeOf(thrown) ?? '';
  const said = cleanText(messageOf(thrown), MAX_QUOTED);

  if (UNTRUSTED_CERTIFICATE.has(code)) {
    return configuration(
      `nobody that this end trusts vouches for the certificate of the database ${address} (${code}); ` +
        `set sslrootcert=FILE in its URL to the certificate of the authority that issued it (now: ${rootFile ?? 'not set'})`,
    );
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return configuration(
      `the certificate of the database ${address} is for ${namesOf(thrown)}, not for ${host} (${code}); ` +
        'name the server in the URL as its certificate does',
    );
  }
  if (code === '28000' && said.includes('no encryption')) {
    return configuration(
      `the database ${address} takes login ${login} over TLS only (${code}); add ?sslmode=verify-full to its URL, with ` +
        '&sslrootcert=FILE when its authority is a private one',
    );
  }
  if (code === '28000')
    return configuration(`the database ${address} does not take login ${login}: ${said} (${code})`);
  if (code === '28P01') {
    return configuration(
      `the database ${address} refuses the password of login ${login} (${code}); correct the URL`,
    );
  }
  if (code === '3D000') return configuration(`${said} on ${address} (${code}); make it, or correct the URL`);
  if (said === 'The server does not support SSL connections') {
    return configuration(`the database ${address} does not offer TLS, which sslmode of its URL asks for`);
  }
  const path = textOf(thrown, 'path');
  if (typeof path === 'string' && filesOf(databaseUrl).some((file) => file.path === path)) {
    return configuration(databaseFileProblems(databaseUrl)[0] ?? `cannot read ${path}: ${code}`);
  }
  if (UNREACHABLE_PEER.has(code)) {
    const why = code === 'ENOTFOUND' ? 'its name is not known' : 'it does not answer';
    return new DatabaseProblem('unreachable', `${address}: ${why} (${code})`, thrown);
  }
  return undefined;
};

/** The problem with a database connection that an error was made from, if any. */
export const databaseProblemIn = (thrown: unknown): DatabaseProblem | undefined => {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error instanceof DatabaseProblem) return error;
  }
  return undefined;
};
