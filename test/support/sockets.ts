import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { endedByReset } from '../../src/protocol/session/reset-detection.ts';
import type { Closer } from './temporary.ts';

export interface ListeningServer {
  readonly server: Server;
  readonly port: number;
  /** Every connection so far. */
  readonly sockets: Socket[];
}

/** Any free port of loopback. */
const LOOPBACK = { host: '127.0.0.1', port: 0 };

/** A TCP server for one test, on loopback by default; the handler gets half-open capable sockets. */
export const listen = async (
  t: Closer,
  handle: (socket: Socket) => void,
  at: { readonly host: string; readonly port: number } = LOOPBACK,
): Promise<ListeningServer> => {
  const sockets: Socket[] = [];
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    handle(socket);
  });
  server.listen({ ...at, backlog: 1024 });
  await once(server, 'listening');
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    if (!server.listening) return;
    server.close();
    await once(server, 'close');
  });
  return { server, port: (server.address() as AddressInfo).port, sockets };
};

/** A connection to `ADDR:PORT`, half-open capable; destroyed with the test. */
export const dial = (t: Closer, address: string): Socket => {
  const colon = address.lastIndexOf(':');
  const socket = connect({
    host: address.slice(0, colon),
    port: Number(address.slice(colon + 1)),
    allowHalfOpen: true,
    noDelay: true,
  });
  t.after(() => socket.destroy());
  return socket;
};

/** Streams to an echo at `ADDR:PORT` that are open and have moved a byte. */
export const holdStreams = async (t: Closer, address: string, count: number): Promise<Socket[]> => {
  const held: Socket[] = [];
  for (let opened = 0; opened < count; opened += 1) {
    const socket = dial(t, address);
    socket.write('x');
    await once(socket, 'data');
    held.push(socket);
  }
  return held;
};

export interface SocketEnd {
  /** Everything received. */
  readonly bytes: Buffer;
  /** `fin` when the peer ended, else the error's code. */
  readonly how: string;
}

const END_DEADLINE_MS = 20_000;

/** Reads until the peer's FIN or an error. A RST that libuv shows as an end, behind unread bytes, is one. */
export const readToEnd = (socket: Socket, deadlineMs: number = END_DEADLINE_MS): Promise<SocketEnd> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const finish = (how: string): void => {
      clearTimeout(late);
      resolve({ bytes: Buffer.concat(chunks), how });
    };
    const late = setTimeout(
      () => reject(new Error(`neither FIN nor error within ${deadlineMs} ms`)),
      deadlineMs,
    );
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.once('end', () => finish(endedByReset(socket) ? 'ECONNRESET' : 'fin'));
    socket.once('error', (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
    socket.once('close', () => finish('closed'));
  });

/** Sends a line and reads one back, over one new connection; rejects when anything else happens. */
export const askOnce = async (t: Closer, address: string, line: string): Promise<string> => {
  const socket = dial(t, address);
  const end = readToEnd(socket);
  socket.end(`${line}\n`);
  const { bytes, how } = await end;
  if (how !== 'fin') throw new Error(`the connection ended with ${how}`);
  return bytes.toString('utf8').trimEnd();
};

/** Answers each connection with what it sent, and ends when the other side does. */
export const echo = (
  t: Closer,
  at?: { readonly host: string; readonly port: number },
): Promise<ListeningServer> =>
  listen(
    t,
    (socket) => {
      socket.on('data', (chunk) => socket.write(chunk));
      socket.on('end', () => socket.end());
    },
    at,
  );
