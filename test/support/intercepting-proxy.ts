import { once } from 'node:events';
import { createServer as createHttp } from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { connect as connectTls, createServer as createTls } from 'node:tls';
import { createAuthority, createServerCertificate, systemClock } from '../../src/runtime/index.ts';
import type { Closer } from './temporary.ts';

/** Makes the certificates of an intercepting proxy. */
export const interceptingAuthority = () => createAuthority('Corp Inspection CA', systemClock);

export interface InterceptingProxyOptions {
  /** Its own certificate authority, PEM. */
  readonly authority: { readonly certPem: string; readonly keyPem: string };
  /** Names that its certificate is for. */
  readonly names: readonly string[];
  readonly target: { readonly host: string; readonly port: number };
  /** Where it listens; default: any loopback port. */
  readonly listen?: { readonly host: string; readonly port: number };
}

/**
 * What a TLS-inspecting firewall does on a port: ends TLS with a certificate of its own, understands HTTP/1.1 alone,
 * passes WebSocket upgrades on over TLS of its own, and drops everything else.
 */
export const startInterceptingProxy = async (
  t: Closer,
  { authority, names, target, listen = { host: '127.0.0.1', port: 0 } }: InterceptingProxyOptions,
): Promise<{ port: number; count(): number }> => {
  const { certPem, keyPem } = await createServerCertificate(authority, [...names], systemClock);
  const sockets = new Set<Socket>();
  const keep = (socket: Socket): Socket => {
    sockets.add(socket);
    return socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
  };
  let upgrades = 0;
  const http = createHttp();
  // Without ALPN, as most that inspect: what a client offers beside HTTP is passed over, not refused.
  const tls = createTls({ cert: certPem, key: keyPem }, (secure) => {
    http.emit('connection', keep(secure));
  });
  http.on('clientError', (_error, socket) => socket.destroy());
  http.on('request', (_request, response) => response.writeHead(502).end());
  http.on('upgrade', (request, socket: Socket, head: Buffer) => {
    upgrades += 1;
    keep(socket);
    const upstream = connectTls({ ...target, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] }, () => {
      const lines = [`GET ${request.url ?? '/'} HTTP/1.1`];
      for (let at = 0; at < request.rawHeaders.length; at += 2)
        lines.push(`${request.rawHeaders[at]}: ${request.rawHeaders[at + 1]}`);
      upstream.write(`${lines.join('\r\n')}\r\n\r\n`);
      upstream.write(head);
      socket.pipe(upstream).pipe(socket);
    });
    keep(upstream).on('close', () => socket.destroy());
    socket.on('close', () => upstream.destroy());
  });
  tls.on('tlsClientError', (_error, socket) => socket.destroy());
  const server = createServer((socket) => {
    keep(socket);
    // What does not begin as TLS is not for a port of HTTPS.
    socket.once('data', (head: Buffer) => {
      if (head[0] !== 22) {
        socket.destroy();
        return;
      }
      socket.pause().unshift(head);
      tls.emit('connection', socket);
    });
  }).listen(listen.port, listen.host);
  await once(server, 'listening');
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return { port: (server.address() as AddressInfo).port, count: () => upgrades };
};
