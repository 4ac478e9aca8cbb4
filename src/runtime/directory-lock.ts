import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { foreignCodeOf } from './errors.ts';
import { makePrivateDirectory } from './files.ts';

/** Holds a directory for one process; the kernel lets go when the process ends, however it ends. */
export interface DirectoryLock {
  release(): Promise<void>;
}

/** What holds a directory: its process, when that told in time. */
export interface DirectoryHolder {
  readonly pid: number | undefined;
}

/** Longest wait for a holder to tell its process: one that is frozen tells nothing. */
const TELL_MS = 1_000;
const MAX_PID_DIGITS = 10;

const released: DirectoryLock = { release: () => Promise.resolve() };

const askHolder = (name: string): Promise<DirectoryHolder> =>
  new Promise((resolve) => {
    let text = '';
    const socket = connect(name);
    const done = (): void => {
      socket.destroy();
      resolve({ pid: /^\d{1,10}$/.test(text) ? Number(text) : undefined });
    };
    socket.setTimeout(TELL_MS, done);
    socket.on('data', (chunk: Buffer) => {
      text = `${text}${chunk.toString('latin1')}`.slice(0, MAX_PID_DIGITS + 1);
    });
    socket.on('error', done);
    socket.on('end', done);
  });

/** The path as every process would name it; of a file that is not there yet as it was given. */
const realPath = (path: string): string => {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
};

/**
 * Takes a path for this process by binding an abstract socket name made of its purpose and path: it counts among the
 * processes of one network namespace. Resolves with the holder when another process has it. Elsewhere than on Linux nothing
 * is held.
 * @throws what the system says when the name cannot be bound
 */
export const lockPath = async (purpose: string, path: string): Promise<DirectoryLock | DirectoryHolder> => {
  if (process.platform !== 'linux') return released;
  const digest = createHash('sha256').update(realPath(path)).digest('hex').slice(0, 40);
  const name = `\0sallyport.${purpose}.${digest}`;
  const asking = new Set<Socket>();
  const server: Server = createServer((socket) => {
    asking.add(socket);
    socket.on('error', () => undefined).once('close', () => asking.delete(socket));
    // Read to its end, or it never closes.
    socket.resume().end(String(process.pid));
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(name, resolve);
    });
  } catch (error) {
    if (foreignCodeOf(error) === 'EADDRINUSE') return askHolder(name);
    throw error;
  }
  server.unref();
  const release = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of asking) socket.destroy();
    });
  return { release };
};

/**
 * Takes a directory for this process as `lockPath` does; makes it when it is not there.
 * @throws what the system says when the directory cannot be made or the name not be bound
 */
export const lockDirectory = async (
  purpose: string,
  directory: string,
): Promise<DirectoryLock | DirectoryHolder> => {
  makePrivateDirectory(directory);
  return lockPath(purpose, directory);
};
