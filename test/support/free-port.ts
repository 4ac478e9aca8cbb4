import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Below 32768, where Linux begins to give ports to outgoing connections and to whoever asks for port 0. */
const FIRST_PORT = 10_240;
const PORT_COUNT = 9_760;
/** A file a port, with the process that a test runs in: test files run side by side and must not hand out the same. */
const DIRECTORY = join(tmpdir(), 'sallyport-test-ports');

const fileOf = (port: number): string => join(DIRECTORY, String(port));
const taken = new Set<number>();
process.on('exit', () => {
  for (const port of taken) rmSync(fileOf(port), { force: true });
});

const isHeld = (file: string): boolean => {
  try {
    process.kill(Number(readFileSync(file, 'utf8')), 0);
    return true;
  } catch {
    return false;
  }
};

/** Whether this process now has the port to give; one whose process is gone is taken over. */
const reserve = (port: number): boolean => {
  mkdirSync(DIRECTORY, { recursive: true });
  const file = fileOf(port);
  for (let attempt = 0; attempt < 2; attempt += 1) {
    try {
      writeFileSync(file, String(process.pid), { flag: 'wx' });
      taken.add(port);
      return true;
    } catch {
      if (taken.has(port) || isHeld(file)) return false;
      rmSync(file, { force: true });
    }
  }
  return false;
};

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
    if (reserve(port) && (await isFree(port))) return port;
  }
};
