import { readFileSync, statSync } from 'node:fs';
import { buildBundle, findOpa, type PolicyErrorCode, readGrants } from '../../policy/index.ts';
import { AppError, reasonOf } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { findRunningUp } from '../ready-file.ts';

const unreadable = (path: string, cause: unknown): AppError<CliErrorCode> =>
  new AppError('ERR_CLI_USAGE', `${path} cannot be read: ${reasonOf(cause)}`, {
    cause,
  });

/** The bytes of a bundle file. @throws AppError ERR_CLI_USAGE when it cannot be read */
export const readBundleFile = (file: string): Buffer => {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw unreadable(file, cause);
  }
};

/** Grants of a file, as JSON text for the engine. @throws AppError ERR_CLI_USAGE, ERR_POLICY_GRANTS */
export const grantsOf = (file: string | undefined): string | undefined =>
  file === undefined ? undefined : readGrants(readBundleFile(file));

/** RFC 1952 §2.3.1: what every gzip file begins with. */
const GZIP = Buffer.from([0x1f, 0x8b]);

/** A bundle file's bytes. @throws AppError ERR_CLI_USAGE when it cannot be read, ERR_POLICY_ARCHIVE when it is no archive at all */
export const readBundleArchive = (file: string): Buffer => {
  const bytes = readBundleFile(file);
  if (bytes.subarray(0, GZIP.length).equals(GZIP)) return bytes;
  throw new AppError<PolicyErrorCode>(
    'ERR_POLICY_ARCHIVE',
    `${file} is no bundle: a .tar.gz is expected, as 'sallyport policy build' writes it`,
  );
};

/**
 * A bundle as a command names it: a file, or a policy directory, which is compiled.
 * @throws AppError ERR_CLI_USAGE when there is nothing; for a directory what buildBundle throws
 */
export const readBundleArgument = async (path: string): Promise<Buffer> => {
  let isDirectory: boolean;
  try {
    isDirectory = statSync(path).isDirectory();
  } catch (cause) {
    throw unreadable(path, cause);
  }
  if (!isDirectory) return readBundleArchive(path);
  return (await buildBundle(path, undefined, { opa: await findOpa() })).bytes;
};

/** The bundle that a command names, else that of the `up` that runs here. @throws AppError ERR_CLI_USAGE when neither */
export const readBundleOrRunning = async (path: string | undefined): Promise<Buffer> => {
  const file = path ?? findRunningUp()?.policy_bundle;
  if (file !== undefined) return readBundleArgument(file);
  throw new AppError<CliErrorCode>(
    'ERR_CLI_USAGE',
    'which policy? give --bundle with a bundle or a policy directory; no `sallyport up` runs here',
  );
};
