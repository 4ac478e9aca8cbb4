import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { foreignCodeOf, makePrivateDirectory } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';

/** Holds a spool for one process; the kernel lets go when the process ends, however it ends. */
export interface SpoolLock {
  release(): Promise<void>;
}

const released: SpoolLock = { release: () => Promise.resolve() };

/**
 * Takes a spool directory for this process by binding an abstract socket name made of its path. Elsewhere
 * than on Linux nothing is held.
 * @throws AppError ERR_AUDIT_SPOOL_IN_USE
 */
export const lockSpool = async (directory: string): Promise<SpoolLock> => {
  makePrivateDirectory(directory);
  if (process.platform !== 'linux') return released;
  const name = createHash('sha256').update(realpathSync(directory)).digest('hex').slice(0, 40);
  const server: Server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        foreignCodeOf(cause) === 'EADDRINUSE'
          ? auditError('ERR_AUDIT_SPOOL_IN_USE', `spool ${directory} is in use by another process`, { cause })
          : auditError('ERR_AUDIT_SPOOL_OPEN', `spool ${directory} cannot be locked: ${cause.message}`, {
              cause,
            }),
      ),
    );
    server.listen(`\0sallyport.spool.${name}`, resolve);
  });
  server.unref();
  return { release: () => new Promise((resolve) => server.close(() => resolve())) };
};
