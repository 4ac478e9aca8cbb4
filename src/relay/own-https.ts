import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Duplex } from 'node:stream';
import { CONTROL_PATH, type Problem, problemResponse } from '../protocol/index.ts';

const HTTP_TIMEOUT_MS = 10_000;
const MAX_HEADER_BYTES = 16 * 1024;

/** The relay's own HTTPS on the public port: WebSocket upgrades, and problem documents for everything else. */
export const createOwnHttps = (
  tls: { readonly cert: string; readonly key: string },
  onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void,
): Server => {
  const server = createServer({
    ...tls,
    minVersion: 'TLSv1.2',
    ALPNProtocols: ['http/1.1'],
    handshakeTimeout: HTTP_TIMEOUT_MS,
    headersTimeout: HTTP_TIMEOUT_MS,
    requestTimeout: HTTP_TIMEOUT_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
  });
  server.on('upgrade', onUpgrade);
  server.on('request', (request, response) => {
    const isControl = (request.url ?? '').split('?', 1)[0] === CONTROL_PATH;
    const problem: Problem = isControl
      ? { status: 426, code: 'upgrade_required', detail: 'a WebSocket is served here' }
      : { status: 404, code: 'not_found', detail: 'nothing is served here' };
    const { headers, body } = problemResponse(problem);
    response.writeHead(problem.status, headers).end(body);
  });
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return server;
};
