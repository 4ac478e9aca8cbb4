import { readFileSync } from 'node:fs';
import { isOneTimeCode } from '../../identity/index.ts';
import { AppError, isAppError, messageOf, writeFileAtomically } from '../../runtime/index.ts';
import type { ManageErrorCode } from './errors.ts';

/** What a one-time code is exchanged with. */
export interface Exchange {
  /** Where the code was read from and its token goes; undefined when it came from the environment. */
  readonly tokenFile: string | undefined;
  /** Calls `POST /tokens/exchange` with a code as its credential. */
  readonly ask: (code: string) => Promise<{ readonly token: string }>;
}

const refused = (message: string, cause?: unknown): AppError<ManageErrorCode> =>
  new AppError('ERR_MANAGE_REFUSED', message, { cause });

/**
 * The token to use: what was given or, when that is a one-time code, what it is exchanged for. The token takes the
 * code's place in its file (0600). Of several commands that start at once, one exchanges and the others find its token.
 * @throws AppError ERR_MANAGE_USAGE, ERR_MANAGE_REFUSED, ERR_MANAGE_UNAVAILABLE
 */
export const exchangedToken = async (given: string, exchange: Exchange): Promise<string> => {
  if (!isOneTimeCode(given)) return given;
  const { tokenFile, ask } = exchange;
  if (tokenFile === undefined) {
    const how = 'put it into a file and give --token-file FILE; its token takes its place there';
    throw new AppError<ManageErrorCode>('ERR_MANAGE_USAGE', `this is a one-time code: ${how}`);
  }
  let token: string;
  try {
    ({ token } = await ask(given));
  } catch (error) {
    const now = isAppError(error, 'ERR_MANAGE_REFUSED') ? readFileSync(tokenFile, 'utf8').trim() : given;
    if (now !== given && !isOneTimeCode(now)) return now;
    if (!isAppError(error, 'ERR_MANAGE_REFUSED')) throw error;
    const remedy = '`sallyport token owner-code -c relay.yaml` makes another';
    throw refused(`the one-time code in ${tokenFile} was used or has expired: ${remedy}`, error);
  }
  try {
    writeFileAtomically(tokenFile, `${token}\n`);
  } catch (error) {
    const remedy = 'end its token (`token list`, `token revoke`) and make another code';
    throw refused(
      `the code was exchanged, but ${tokenFile} cannot be written (${messageOf(error)}): ${remedy}`,
      error,
    );
  }
  return token;
};
