import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { fileURLToPath } from 'node:url';
import { WebSocketServer } from 'ws';
import type { PrivateNetwork } from '../../support/private-network.ts';
import type { Closer } from '../../support/temporary.ts';
import type { DriverCase, PublishedTarget } from '../family.ts';
import { API_HOST } from './api.ts';

const WEB_SOCKET: PublishedTarget = { host: API_HOST, port: 8_443 };
const PUSHED = 1_000;

/** Answers each message with itself, and pushes a thousand before it closes with a code of its own. */
export const startWebSocket = async (
  t: Closer,
  network: PrivateNetwork,
  { certFile, keyFile }: { readonly certFile: string; readonly keyFile: string },
): Promise<{ targets: Record<string, PublishedTarget>; cases: DriverCase[] }> => {
  const server = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile) });
  const sockets = new WebSocketServer({ server, perMessageDeflate: true });
  sockets.on('connection', (socket) => {
    socket.on('message', (data: Buffer, isBinary) => {
      if (isBinary || data.toString() !== 'push') {
        socket.send(data, { binary: isBinary });
        return;
      }
      for (let at = 0; at < PUSHED; at += 1) socket.send(`pushed ${at}`);
      socket.close(4_001, 'all pushed');
    });
  });
  server.listen(WEB_SOCKET.port, network.addressOf(WEB_SOCKET.host));
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate();
    server.close();
  });
  return {
    targets: { 'web-socket': WEB_SOCKET },
    cases: [
      {
        name: 'ws, ws, wss with the certificate verified and compression',
        connection: 'web-socket',
        program: process.execPath,
        args: [
          fileURLToPath(new URL('./web-socket-client.js', import.meta.url)),
          `wss://${WEB_SOCKET.host}:${WEB_SOCKET.port}/`,
        ],
        env: { NODE_EXTRA_CA_CERTS: network.caFile },
        prints:
          'permessage-deflate\n500 messages came back in order\n1000000 bytes came back\npong\n1000 pushed in order, 4001 all pushed\n',
        maxStreams: 1,
      },
    ],
  };
};
