import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { CONTROL_SUBPROTOCOL } from './control-channel.ts';
import { MAX_MESSAGE_BYTES } from './messages.ts';

/** A refusal as the relay sends it: RFC 9457 problem document with a stable code. */
export interface Problem {
  readonly status: 400 | 401 | 403 | 404 | 409 | 426 | 429 | 503;
  readonly code: string;
  readonly detail: string;
  readonly retryAfterS?: number | undefined;
}

/** The document of a problem, and the headers that go with it. */
export const problemResponse = (problem: Problem): { headers: Record<string, string>; body: string } => {
  const body = JSON.stringify({
    type: 'about:blank',
    title: STATUS_CODES[problem.status],
    status: problem.status,
    code: problem.code,
    detail: problem.detail,
  });
  const headers: Record<string, string> = {
    'Content-Type': 'application/problem+json',
    'Content-Length': String(Buffer.byteLength(body)),
    'Cache-Control': 'no-store',
    Connection: 'close',
  };
  if (problem.retryAfterS !== undefined) headers['Retry-After'] = String(problem.retryAfterS);
  if (problem.status === 401) headers['WWW-Authenticate'] = 'SharedAccessSignature';
  if (problem.status === 426) headers['Upgrade'] = 'websocket';
  return { headers, body };
};

/** The WebSocket side of control links at a relay; who may come is decided by the caller. */
export interface ControlServer {
  /** Completes the upgrade. Synchronous up to the 101, so that a check made in the same tick still holds. */
  accept(request: IncomingMessage, socket: Duplex, head: Buffer): WebSocket | undefined;
}

/** Answers an upgrade request with a problem document and closes. */
export const refuseUpgrade = (socket: Duplex, problem: Problem): void => {
  const { headers, body } = problemResponse(problem);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.on('error', () => socket.destroy());
  const status = `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status] ?? ''}\r\n`;
  socket.end(`${status}${lines.join('')}\r\n${body}`);
  socket.once('finish', () => socket.destroy());
};

export const acceptControl = (): ControlServer => {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    handleProtocols: () => CONTROL_SUBPROTOCOL,
  });
  return {
    accept(request, socket, head) {
      let accepted: WebSocket | undefined;
      server.handleUpgrade(request, socket, head, (webSocket) => {
        accepted = webSocket;
      });
      return accepted;
    },
  };
};
