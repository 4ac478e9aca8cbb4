import { readFileSync, statSync } from 'node:fs';
import { buildBundle, findOpa } from '../../policy/index.ts';
import { AppError, foreignCodeOf, messageOf } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { findRunningUp } from '../ready-file.ts';

const unreadable = (path: string, cause: unknown): AppError<CliErrorCode> =>
  new AppError('ERR_CLI_USAGE', `${path} cannot be read: ${foreignCodeOf(cause) ?? messageOf(cause)}`, {
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
  if (!isDirectory) return readBundleFile(path);
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
