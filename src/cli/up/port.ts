import { createServer } from 'node:net';

const tryPort = (port: number, host: string): Promise<number | undefined> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen({ port, host, exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : undefined));
    });
  });

/**
 * Loopback ports that stay the same from start to start: the remembered one while it is free, else a new one.
 * Returns whether it had to change, so that it can be said.
 */
export const choosePort = async (
  remembered: number | undefined,
  host = '127.0.0.1',
): Promise<{ port: number; changed: boolean }> => {
  if (remembered !== undefined) {
    const kept = await tryPort(remembered, host);
    if (kept !== undefined) return { port: kept, changed: false };
  }
  for (;;) {
    const port = await tryPort(0, host);
    if (port !== undefined) return { port, changed: remembered !== undefined };
  }
};
