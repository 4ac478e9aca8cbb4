import { createServer } from 'node:net';

/**
 * A loopback TCP port that was free a moment ago, for programs that cannot be given port 0. Callers retry
 * when somebody else took it first.
 */
export const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === 'string') reject(new Error('no port was bound'));
        else resolve(address.port);
      });
    });
  });
