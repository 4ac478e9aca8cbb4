import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { type RawData, WebSocket, WebSocketServer } from 'ws';
import { CONTROL_PATH } from '../../src/protocol/index.ts';
import { createLinkCertificate, systemClock } from '../../src/runtime/index.ts';
import type { Deployment } from './deployment.ts';
import type { Closer } from './temporary.ts';

type Message = Record<string, unknown> & { t?: string };

/** A relay in an attacker's hands, in front of the real one: it has the relay's own certificate and key. */
export interface HostileRelay {
  readonly controlPort: number;
  readonly dataPort: number;
  /** What it does to a message that it passes on to the victim. */
  rewrite: (message: Message) => Message;
  /** Whether it sits inside the data link with certificates of its own. */
  swapCertificates: boolean;
  /** Data links whose TLS it answered itself, with its own certificate. */
  intercepted(): number;
  /** Payload bytes that it could read. */
  readBytes(): number;
}

const portOf = (server: { address(): AddressInfo | string | null }): number =>
  (server.address() as AddressInfo).port;

const text = (data: RawData): string =>
  (Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data as ArrayBuffer)).toString('utf8');

/** Starts it; the victim's configuration names its two ports instead of the relay's. */
export const startHostileRelay = async (t: Closer, deployment: Deployment): Promise<HostileRelay> => {
  const file = (name: string): Buffer => readFileSync(join(deployment.directory, name));
  const ca = file('ca.pem');
  const own = await createLinkCertificate('relay', systemClock);
  let intercepted = 0;
  let readBytes = 0;

  const control = createHttpsServer({ cert: file('relay.pem'), key: file('relay.key') });
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => 'sallyport.v1' });
  control.on('upgrade', (request, socket, head) => {
    // It lies over TCP; data links that come as WebSockets, and probes, it does not serve.
    if (request.url !== CONTROL_PATH) {
      socket.destroy();
      return;
    }
    const { authorization, ...rest } = request.headers;
    const ours = Object.entries(rest).filter(([name]) => name.startsWith('sallyport-'));
    const upstream = new WebSocket(
      `wss://${deployment.relayHost}:${deployment.relayPort}${request.url ?? ''}`,
      'sallyport.v1',
      { ca, headers: { authorization: authorization ?? '', ...Object.fromEntries(ours) } },
    );
    const early: RawData[] = [];
    const keep = (data: RawData): number => early.push(data);
    upstream.on('message', keep);
    upstream.on('error', () => socket.destroy());
    upstream.once('open', () => {
      sockets.handleUpgrade(request, socket, head, (victim) => {
        const pass = (data: RawData): void => {
          victim.send(JSON.stringify(hostile.rewrite(JSON.parse(text(data)) as Message)));
        };
        upstream.off('message', keep);
        upstream.on('message', pass);
        for (const data of early) pass(data);
        victim.on('message', (data) => upstream.send(text(data)));
        victim.on('close', () => upstream.terminate());
        victim.on('error', () => upstream.terminate());
        upstream.on('close', () => victim.terminate());
      });
    });
  });

  /** The ALPN entries of the newest ClientHello, the token among them. */
  let latest: readonly string[] = [];
  const inside = createTlsServer(
    {
      cert: own.certPem,
      key: own.keyPem,
      minVersion: 'TLSv1.3',
      requestCert: true,
      rejectUnauthorized: false,
      ALPNCallback: (hello: { protocols: readonly string[] }) => {
        latest = hello.protocols;
        intercepted += 1;
        return 'sallyport.v1';
      },
    },
    (victim: TLSSocket) => {
      const upstream = connectTls({
        host: '127.0.0.1',
        port: deployment.relayPort,
        servername: deployment.relayHost,
        ALPNProtocols: [...latest],
        cert: own.certPem,
        key: own.keyPem,
        rejectUnauthorized: false,
        minVersion: 'TLSv1.3',
      });
      victim.on('error', () => upstream.destroy());
      upstream.on('error', () => victim.destroy());
      victim.on('data', (chunk: Buffer) => (readBytes += chunk.length));
      upstream.on('data', (chunk: Buffer) => (readBytes += chunk.length));
      victim.pipe(upstream);
      upstream.pipe(victim);
    },
  );
  inside.on('tlsClientError', () => undefined);

  const data = createServer((victim) => {
    victim.on('error', () => undefined);
    if (hostile.swapCertificates) {
      inside.emit('connection', victim);
      return;
    }
    const upstream = connect(deployment.relayPort, '127.0.0.1');
    upstream.on('error', () => victim.destroy());
    victim.on('error', () => upstream.destroy());
    victim.pipe(upstream);
    upstream.pipe(victim);
  });

  for (const server of [control, data]) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }
  t.after(() => {
    control.closeAllConnections();
    for (const client of sockets.clients) client.terminate();
    control.close();
    data.close();
  });
  const hostile: HostileRelay = {
    controlPort: portOf(control),
    dataPort: portOf(data),
    rewrite: (message) => message,
    swapCertificates: false,
    intercepted: () => intercepted,
    readBytes: () => readBytes,
  };
  return hostile;
};
