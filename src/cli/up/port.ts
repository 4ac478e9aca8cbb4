import { createServer } from 'node:net';
import { randomFraction } from '../../runtime/index.ts';

/**
 * Where a port is chosen that is to stay: below 32768, where Linux begins to give ports to outgoing connections,
 * any of which could have taken it by the next start.
 */
const FIRST_PORT = 20_000;
const LAST_PORT = 32_767;
const CHOSEN_TRIES = 64;

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
 * Returns whether it had to change, so that it can be said. A new one is none of `others`, which nobody may listen at yet.
 */
export const choosePort = async (
  remembered: number | undefined,
  host = '127.0.0.1',
  others: ReadonlySet<number> = new Set(),
): Promise<{ port: number; changed: boolean }> => {
  if (remembered !== undefined) {
    const kept = await tryPort(remembered, host);
    if (kept !== undefined) return { port: kept, changed: false };
  }
  for (let tries = 0; ; tries += 1) {
    const chosen = FIRST_PORT + Math.floor(randomFraction() * (LAST_PORT - FIRST_PORT + 1));
    const port = await tryPort(tries < CHOSEN_TRIES ? chosen : 0, host);
    if (port !== undefined && !others.has(port)) return { port, changed: remembered !== undefined };
  }
};
