import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Duplex } from 'node:stream';
import { CONTROL_PATH, LINK_PATH, PROBE_PATH, type Problem, problemResponse } from '../protocol/index.ts';

const HTTP_TIMEOUT_MS = 10_000;
const MAX_HEADER_BYTES = 16 * 1024;

const CARRIER_PATHS: ReadonlySet<string> = new Set([LINK_PATH, PROBE_PATH]);

type OnUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

/** The path of a request, without its query. */
export const pathOf = ({ url }: IncomingMessage): string => (url ?? '').split('?', 1)[0] ?? '';

/** The relay's own HTTPS on the public port: WebSocket upgrades, and problem documents for everything else. */
export const createOwnHttps = (
  tls: { readonly cert: string; readonly key: string },
  onUpgrade: { readonly control: OnUpgrade; readonly carrier: OnUpgrade },
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
  server.on('upgrade', (request, socket, head) => {
    const take = CARRIER_PATHS.has(pathOf(request)) ? onUpgrade.carrier : onUpgrade.control;
    take(request, socket, head);
  });
  server.on('request', (request, response) => {
    const path = pathOf(request);
    const isWebSocket = path === CONTROL_PATH || CARRIER_PATHS.has(path);
    const problem: Problem = isWebSocket
      ? { status: 426, code: 'upgrade_required', detail: 'a WebSocket is served here' }
      : { status: 404, code: 'not_found', detail: 'nothing is served here' };
    const { headers, body } = problemResponse(problem);
    response.writeHead(problem.status, headers).end(body);
  });
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return server;
};
