import { readFileSync } from 'node:fs';
import { isOneTimeCode } from '../../identity/index.ts';
import {
  AppError,
  isAppError,
  messageOf,
  sleep,
  systemClock,
  writeFileAtomically,
} from '../../runtime/index.ts';
import type { ManageErrorCode } from './errors.ts';

/** What a one-time code is exchanged with. */
export interface Exchange {
  /** Where the code was read from and its token goes; undefined when it came from the environment. */
  readonly tokenFile: string | undefined;
  /** Calls `POST /tokens/exchange` with a code as its credential. */
  readonly ask: (code: string) => Promise<{ readonly token: string }>;
}

/** How long the command that exchanged a code may take to write its token. */
const WRITTEN_WITHIN_MS = 2_000;
const LOOK_EVERY_MS = 50;

const refused = (message: string, cause?: unknown): AppError<ManageErrorCode> =>
  new AppError('ERR_MANAGE_REFUSED', message, { cause });

/** Who exchanged the code first has its token in the file a moment after the relay refuses the code to others. */
const writtenByAnother = async (tokenFile: string): Promise<string | undefined> => {
  for (let waitedMs = 0; ; waitedMs += LOOK_EVERY_MS) {
    const now = readFileSync(tokenFile, 'utf8').trim();
    if (!isOneTimeCode(now)) return now;
    if (waitedMs >= WRITTEN_WITHIN_MS) return undefined;
    await sleep(systemClock, LOOK_EVERY_MS);
  }
};

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
    if (!isAppError(error, 'ERR_MANAGE_REFUSED')) throw error;
    const token = await writtenByAnother(tokenFile);
    if (token !== undefined) return token;
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
