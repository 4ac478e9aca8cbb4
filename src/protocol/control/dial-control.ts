import { type IncomingMessage, STATUS_CODES } from 'node:http';
import { isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { WebSocket } from 'ws';
import { z } from 'zod';
import { AppError, type Clock, cleanText, messageOf } from '../../runtime/index.ts';
import { dial } from '../carrier/dial.ts';
import type { RelayNodeConfig, Side } from '../link/offer.ts';
import { CONTROL_PATH, CONTROL_SUBPROTOCOL } from './control-channel.ts';
import type { ControlLinkErrorCode } from './errors.ts';
import { MAX_MESSAGE_BYTES } from './messages.ts';

/** Header that names the connection of the first credential. */
export const CONNECTION_HEADER = 'sallyport-connection';
/** Header that says `agent` or `gateway`: which claim the first credential must have. */
export const ROLE_HEADER = 'sallyport-role';
/** TCP, TLS and the WebSocket upgrade together. */
export const CONTROL_HANDSHAKE_TIMEOUT_MS = 10_000;
const MAX_PROBLEM_BYTES = 16 * 1024;
const MAX_RETRY_AFTER_S = 3_600;

/** The relay answered the handshake with an HTTP status other than 101. */
export class HandshakeRefused extends AppError<ControlLinkErrorCode> {
  readonly status: number;
  /** Stable code of the problem document. */
  readonly problem: string;
  readonly retryAfterMs: number | undefined;

  constructor(status: number, problem: string, detail: string, retryAfterMs: number | undefined) {
    const retryable = status === 429 || status >= 500;
    super('ERR_CONTROL_LINK_REFUSED', detail, { retryable });
    this.status = status;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }
}

const problemDocument = z.looseObject({ code: z.string().max(128), detail: z.string().max(1024).optional() });

const readProblem = async (response: IncomingMessage): Promise<HandshakeRefused> => {
  const status = response.statusCode ?? 0;
  let body = '';
  response.setEncoding('utf8');
  for await (const chunk of response as AsyncIterable<string>) {
    body += chunk;
    if (body.length > MAX_PROBLEM_BYTES) break;
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    parsed = undefined;
  }
  const problem = problemDocument.safeParse(parsed);
  const seconds = Number(response.headers['retry-after']);
  const retryAfterMs =
    Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds, MAX_RETRY_AFTER_S) * 1000 : undefined;
  const reason = STATUS_CODES[status] ?? 'unknown status';
  const code = problem.success ? cleanText(problem.data.code) : `http_${status}`;
  const detail = problem.success ? cleanText(problem.data.detail ?? problem.data.code) : reason.toLowerCase();
  return new HandshakeRefused(status, code, detail, retryAfterMs);
};

export interface ControlDialOptions {
  readonly node: RelayNodeConfig;
  readonly role: Side;
  readonly ca: string | undefined;
  readonly connection: string;
  readonly token: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Opens the WebSocket of a control link and proves the first credential on the way.
 *
 * @throws HandshakeRefused when the relay answered but refused
 * @throws AppError ERR_CARRIER_DIAL, ERR_CARRIER_PROXY, ERR_CONTROL_LINK_DOWN, ERR_CONTROL_LINK_TIMEOUT
 */
export const dialControl = async (options: ControlDialOptions): Promise<WebSocket> => {
  const { node } = options;
  const raw = await dial(node.host, node.control_port, { clock: options.clock });
  const secure = connectTls({
    socket: raw,
    ALPNProtocols: ['http/1.1'],
    minVersion: 'TLSv1.2',
    ...(isIP(node.host) === 0 ? { servername: node.host } : { host: node.host }),
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  });
  const host = node.host.includes(':') ? `[${node.host}]` : node.host;
  const socket = new WebSocket(`wss://${host}:${node.control_port}${CONTROL_PATH}`, CONTROL_SUBPROTOCOL, {
    createConnection: () => secure,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    followRedirects: false,
    headers: {
      authorization: options.token,
      [CONNECTION_HEADER]: options.connection,
      [ROLE_HEADER]: options.role,
    },
  });
  return new Promise((resolve, reject) => {
    let settled = false;
    const settle = (): boolean => {
      if (settled) return false;
      settled = true;
      timer.cancel();
      options.signal.removeEventListener('abort', onAbort);
      return true;
    };
    const fail = (error: Error): void => {
      if (!settle()) return;
      socket.on('error', () => undefined);
      socket.terminate();
      raw.destroy();
      reject(error);
    };
    const lost = (detail: string, cause?: unknown): AppError<ControlLinkErrorCode> =>
      new AppError('ERR_CONTROL_LINK_DOWN', `cannot log in at ${node.host}:${node.control_port}: ${detail}`, {
        retryable: true,
        cause,
      });
    const onAbort = (): void => fail(lost('closed'));
    const timer = options.clock.after(CONTROL_HANDSHAKE_TIMEOUT_MS, () => {
      const message = `no answer of ${node.host}:${node.control_port} in ${CONTROL_HANDSHAKE_TIMEOUT_MS} ms`;
      fail(new AppError<ControlLinkErrorCode>('ERR_CONTROL_LINK_TIMEOUT', message, { retryable: true }));
    });
    socket.once('open', () => {
      if (settle()) resolve(socket);
    });
    socket.on('error', (error) => fail(lost(messageOf(error), error)));
    socket.once('close', () => fail(lost('connection closed')));
    socket.once('unexpected-response', (_request, response: IncomingMessage) => {
      readProblem(response).then(fail, (thrown: unknown) => fail(lost(messageOf(thrown), thrown)));
    });
    options.signal.addEventListener('abort', onAbort, { once: true });
    if (options.signal.aborted) onAbort();
  });
};
