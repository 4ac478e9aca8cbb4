import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Closer } from './temporary.ts';

/** A network in miniature between a process and a server on loopback. */
export interface TcpProxy {
  readonly port: number;
  /** Passes nothing on any more, in either direction; connections stay and new ones come up, to nowhere. */
  stall(): void;
  /** Resets every connection and each new one. */
  refuse(): void;
  /** Passes everything on again, what was held back first. */
  resume(): void;
  /** Connections that are up. */
  count(): number;
}

type Mode = 'open' | 'stalled' | 'refusing';

export interface TcpProxyOptions {
  readonly host?: string;
  /** Where it listens; default: any loopback port. */
  readonly listenHost?: string;
  /** Every byte, and every end, arrives so much later; order is kept. */
  readonly delayMs?: number;
}

/** Starts one in front of a port; it ends with the test. */
export const startTcpProxy = async (
  t: Closer,
  targetPort: number,
  { host = '127.0.0.1', listenHost = '127.0.0.1', delayMs = 0 }: TcpProxyOptions = {},
): Promise<TcpProxy> => {
  let mode: Mode = 'open';
  const sockets = new Set<Socket>();
  const timers = new Set<NodeJS.Timeout>();
  const later = (call: () => void): void => {
    if (delayMs === 0) {
      call();
      return;
    }
    // Timers of the same delay fire in the order in which they were set: bytes keep theirs.
    const timer = setTimeout(() => {
      timers.delete(timer);
      call();
    }, delayMs);
    timers.add(timer);
  };
  const pass = (from: Socket, to: Socket): void => {
    sockets.add(from);
    from.on('data', (chunk) => later(() => to.destroyed || to.write(chunk)));
    from.on('end', () => later(() => to.end()));
    from.on('error', () => later(() => to.resetAndDestroy()));
    from.on('close', () => {
      sockets.delete(from);
      later(() => to.destroySoon());
    });
    if (mode === 'stalled') from.pause();
  };
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    near.on('error', () => undefined);
    if (mode === 'refusing') {
      near.resetAndDestroy();
      return;
    }
    const far = connect({ host, port: targetPort, allowHalfOpen: true, noDelay: true });
    far.on('error', () => undefined);
    pass(near, far);
    pass(far, near);
  });
  server.listen(0, listenHost);
  await once(server, 'listening');
  t.after(async () => {
    for (const timer of timers) clearTimeout(timer);
    server.close();
    for (const socket of sockets) socket.destroy();
    await once(server, 'close');
  });
  return {
    port: (server.address() as AddressInfo).port,
    stall() {
      mode = 'stalled';
      for (const socket of sockets) socket.pause();
    },
    refuse() {
      mode = 'refusing';
      for (const socket of sockets) socket.resetAndDestroy();
    },
    resume() {
      mode = 'open';
      for (const socket of sockets) socket.resume();
    },
    count: () => sockets.size / 2,
  };
};
