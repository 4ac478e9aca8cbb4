import { once } from 'node:events';
import { createServer as createHttp, type Server } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Closer } from './temporary.ts';

export interface ConnectProxyOptions {
  /** `user:password` that is wanted; undefined: none. */
  readonly credentials?: string;
  /** Speaks TLS to its clients. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Default: any loopback port. */
  readonly listen?: { readonly host: string; readonly port: number };
}

export interface ConnectProxy {
  readonly port: number;
  /** Destinations that a way was given to, in order. */
  readonly tunnels: readonly string[];
  readonly refused: () => number;
  /** The first bytes that clients sent through each way. */
  readonly firstBytes: readonly Buffer[];
}

/** A forward proxy with CONNECT and Basic credentials; it ends with the test. */
export const startConnectProxy = async (
  t: Closer,
  { credentials, tls, listen = { host: '127.0.0.1', port: 0 } }: ConnectProxyOptions = {},
): Promise<ConnectProxy> => {
  const sockets = new Set<Duplex>();
  const keep = <S extends Duplex>(socket: S): S => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    return socket;
  };
  const tunnels: string[] = [];
  const firstBytes: Buffer[] = [];
  let refused = 0;
  const wanted =
    credentials === undefined ? undefined : `Basic ${Buffer.from(credentials).toString('base64')}`;
  const server: Server = tls === undefined ? createHttp() : createHttps(tls);
  server.on('connection', keep);
  server.on('connect', (request, socket: Socket) => {
    keep(socket);
    if (request.headers['proxy-authorization'] !== wanted) {
      refused += 1;
      socket.end(
        'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="test"\r\n' +
          'Content-Length: 7\r\n\r\n<html/>',
      );
      return;
    }
    const [, host = '', port] = /^(.*):(\d+)$/.exec(request.url ?? '') ?? [];
    const upstream = keep(
      connect({ host: host.replace(/^\[|\]$/g, ''), port: Number(port), noDelay: true, allowHalfOpen: true }),
    );
    upstream.once('connect', () => {
      tunnels.push(request.url ?? '');
      socket.write('HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n');
      socket.once('data', (bytes: Buffer) => firstBytes.push(bytes));
      socket.pipe(upstream).pipe(socket);
    });
    // Either side's end, and its reset, ends the other.
    upstream.on('error', () => socket.destroy()).on('close', () => socket.destroy());
    socket.on('close', () => upstream.destroy());
  });
  server.listen(listen.port, listen.host);
  await once(server, 'listening');
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return { port: (server.address() as AddressInfo).port, tunnels, refused: () => refused, firstBytes };
};
