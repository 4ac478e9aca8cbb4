import { type DirectoryLock, lockDirectory, messageOf } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';

/** Holds a spool for one process. */
export type SpoolLock = DirectoryLock;

/**
 * Takes a spool directory for this process.
 * @throws AppError ERR_AUDIT_SPOOL_IN_USE, ERR_AUDIT_SPOOL_OPEN
 */
export const lockSpool = async (directory: string): Promise<SpoolLock> => {
  const taken = await lockDirectory('spool', directory).catch((cause: unknown) => {
    throw auditError('ERR_AUDIT_SPOOL_OPEN', `spool ${directory} cannot be locked: ${messageOf(cause)}`, {
      cause,
    });
  });
  if ('release' in taken) return taken;
  const who = taken.pid === undefined ? 'another process' : `another process (${taken.pid})`;
  throw auditError('ERR_AUDIT_SPOOL_IN_USE', `spool ${directory} is in use by ${who}`);
};
