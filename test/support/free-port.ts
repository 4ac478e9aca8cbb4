import { createServer } from 'node:net';

/** Below 32768, where Linux begins to give ports to outgoing connections and to whoever asks for port 0. */
const FIRST_PORT = 10_240;
const PORT_COUNT = 9_760;

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });

/** A loopback TCP port that was free a moment ago, for programs that cannot be given port 0. */
export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = FIRST_PORT + Math.floor(Math.random() * PORT_COUNT);
    if (await isFree(port)) return port;
  }
};
