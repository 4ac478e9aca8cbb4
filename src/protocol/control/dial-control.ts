import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { WebSocket } from 'ws';
import { z } from 'zod';
import { AppError, type Clock, cleanText, formatHostPort } from '../../runtime/index.ts';
import { type SeenCertificate, seenCertificate } from '../carrier/certificate.ts';
import { openWebSocket } from '../carrier/open-web-socket.ts';
import { ROLE_HEADER } from '../carrier/preamble.ts';
import type { ProxyFor } from '../carrier/proxy.ts';
import type { ServerRevocation } from '../certificate/server-revocation.ts';
import type { Side } from '../link/offer.ts';
import { CONTROL_PATH, CONTROL_SUBPROTOCOL } from './control-channel.ts';
import type { ControlLinkErrorCode } from './errors.ts';
import { MAX_MESSAGE_BYTES } from './messages.ts';

/** Header that names the connection of the first credential. */
export const CONNECTION_HEADER = 'sallyport-connection';
const MAX_PROBLEM_BYTES = 16 * 1024;
const MAX_RETRY_AFTER_S = 3_600;

/** The relay answered the handshake with an HTTP status other than 101. */
export class HandshakeRefused extends AppError<ControlLinkErrorCode> {
  readonly status: number;
  /** Stable code of the problem document. */
  readonly problem: string;
  readonly retryAfterMs: number | undefined;
  /** False when it is not the relay's own document: something on the way answered in its place. */
  readonly isOfRelay: boolean;

  constructor(
    status: number,
    problem: string,
    detail: string,
    retryAfterMs: number | undefined,
    isOfRelay = true,
  ) {
    const retryable = status === 429 || status >= 500;
    super('ERR_CONTROL_LINK_REFUSED', detail, { retryable });
    this.status = status;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
    this.isOfRelay = isOfRelay;
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
  return new HandshakeRefused(status, code, detail, retryAfterMs, problem.success);
};

export interface ControlDialOptions {
  readonly host: string;
  readonly port: number;
  readonly role: Side;
  readonly ca: string | undefined;
  /** Where `ca` was read, for messages. */
  readonly caFile?: string | undefined;
  /** Asked before anything is sent; undefined: nobody is. */
  readonly revocation?: ServerRevocation | undefined;
  readonly connection: string;
  readonly token: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly proxies: ProxyFor | undefined;
}

/** An open control link, and the certificate that it was shown. */
export interface DialledControl {
  readonly socket: WebSocket;
  readonly certificate: SeenCertificate | undefined;
}

/**
 * Opens the WebSocket of a control link and proves the first credential on the way.
 *
 * @throws HandshakeRefused when the relay answered but refused
 * @throws AppError ERR_CARRIER_DIAL, ERR_CARRIER_PROXY, ERR_CONTROL_LINK_DOWN, ERR_CONTROL_LINK_TIMEOUT,
 *   ERR_CERTIFICATE_REVOKED, ERR_CERTIFICATE_REVOCATION_UNKNOWN
 */
export const dialControl = ({
  role,
  connection,
  token,
  ...where
}: ControlDialOptions): Promise<DialledControl> =>
  openWebSocket({
    ...where,
    path: CONTROL_PATH,
    protocol: CONTROL_SUBPROTOCOL,
    maxMessageBytes: MAX_MESSAGE_BYTES,
    headers: { authorization: token, [CONNECTION_HEADER]: connection, [ROLE_HEADER]: role },
    onOpen: ({ socket, secure }) => ({ socket, certificate: seenCertificate(secure) }),
    refusal: readProblem,
    lost: (detail, cause) =>
      new AppError<ControlLinkErrorCode>(
        'ERR_CONTROL_LINK_DOWN',
        `cannot log in at ${formatHostPort(where)}: ${detail}`,
        { retryable: true, cause },
      ),
    late: (detail) =>
      new AppError<ControlLinkErrorCode>('ERR_CONTROL_LINK_TIMEOUT', detail, { retryable: true }),
  });
