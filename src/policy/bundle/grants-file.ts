import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isAppError, messageOf } from '../../runtime/index.ts';
import type { PolicyErrorCode } from '../errors.ts';
import type { ActiveGrants, RejectedBundle } from '../host-contract.ts';
import { readGrants } from './grants.ts';

/** @throws AppError ERR_POLICY_GRANTS naming what is wrong, or the error of reading the file */
export const readGrantsFile = async (file: string): Promise<ActiveGrants> => {
  const text = readGrants(await readFile(file));
  return { text, sha256: createHash('sha256').update(text).digest('hex') };
};

/**
 * What is told of a grants file that was not taken. It says what that leaves as it is, because whoever removed somebody
 * takes him to be out.
 * @param sha256 of the grants, where they could be read
 * @param before whether grants of before decide
 */
export const refusedGrants = (
  file: string,
  thrown: unknown,
  { atMs, sha256, before }: { atMs: number; sha256: string | undefined; before: boolean },
): RejectedBundle => {
  const left = before
    ? 'the grants before stay: whoever was removed from it still has access'
    : 'there are no grants before, so that no bundle decides and every stream is denied';
  return {
    atMs,
    sha256,
    code: isAppError(thrown) ? thrown.code : ('ERR_POLICY_GRANTS' satisfies PolicyErrorCode),
    message: `grants file ${file} NOT taken: ${messageOf(thrown)}; ${left}`,
    file,
  };
};
