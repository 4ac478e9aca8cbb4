import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import {
  AppError,
  type Clock,
  formatHostPort,
  messageOf,
  type ResettableStream,
} from '../../runtime/index.ts';
import { checkedHandshake } from '../certificate/checked-handshake.ts';
import type { ServerRevocation } from '../certificate/server-revocation.ts';
import { issuerOf, notTlsText, untrustedText } from '../certificate/untrusted-server.ts';
import { type SeenCertificate, seenCertificate } from './certificate.ts';
import { dial } from './dial.ts';
import type { ProxyFor } from './proxy.ts';

/** TLS and the WebSocket upgrade together. */
export const WEB_SOCKET_TIMEOUT_MS = 10_000;

/** An open WebSocket and what is under it. */
export interface OpenWebSocket {
  readonly socket: WebSocket;
  readonly secure: TLSSocket;
  readonly raw: ResettableStream;
}

export interface WebSocketOptions<T> {
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly protocol: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly maxMessageBytes: number;
  /** PEM of the authorities to trust instead of the system's. */
  readonly ca: string | undefined;
  /** Where `ca` was read, for messages. */
  readonly caFile?: string | undefined;
  /** Asked before anything is sent; undefined: nobody is. */
  readonly revocation?: ServerRevocation | undefined;
  readonly clock: Clock;
  readonly signal: AbortSignal | undefined;
  readonly proxies: ProxyFor | undefined;
  /** Mask of every frame all zero, which saves both ends the work (docs/adr/0028). */
  readonly isUnmasked?: boolean;
  /** In the tick in which it opens. */
  readonly onOpen: (open: OpenWebSocket) => T | Promise<T>;
  /** What an answer other than 101 means; it may be read. */
  readonly refusal: (response: IncomingMessage) => Promise<Error>;
  /** What else went wrong. */
  readonly lost: (detail: string, cause?: unknown) => Error;
  readonly late: (detail: string) => Error;
}

/** Waits until the server may be told something: the handshake is done and its certificate not revoked. */
const trusted = async <T>(
  secure: TLSSocket,
  raw: ResettableStream,
  revocation: ServerRevocation,
  { clock, signal, late }: WebSocketOptions<T>,
  tooLate: string,
): Promise<void> => {
  let isLate = false;
  const stop = (): void => {
    secure.destroy();
    raw.destroy();
  };
  const timer = clock.after(WEB_SOCKET_TIMEOUT_MS, () => {
    isLate = true;
    stop();
  });
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted === true) stop();
  try {
    await checkedHandshake(secure, revocation, clock);
  } catch (thrown) {
    stop();
    // It is set by the timer meanwhile.
    throw (isLate as boolean) ? late(tooLate) : thrown;
  } finally {
    timer.cancel();
    signal?.removeEventListener('abort', stop);
  }
};

/**
 * Opens a WebSocket over TLS to a node; redirects are not followed.
 *
 * @throws AppError ERR_CARRIER_DIAL, ERR_CARRIER_PROXY, ERR_CERTIFICATE_REVOKED, ERR_CERTIFICATE_REVOCATION_UNKNOWN, and what the
 *   options make of everything else
 */
export const openWebSocket = async <T>(options: WebSocketOptions<T>): Promise<T> => {
  const { host, port, clock, signal, proxies } = options;
  const raw = await dial(host, port, { clock, signal, proxies });
  const secure = connectTls({
    socket: raw,
    ALPNProtocols: ['http/1.1'],
    minVersion: 'TLSv1.2',
    ...(isIP(host) === 0 ? { servername: host } : { host }),
    ...(options.ca === undefined ? {} : { ca: options.ca }),
  });
  let shown: SeenCertificate | undefined;
  // Before the check: a certificate that is refused is gone with the connection.
  secure.prependOnceListener('secure', () => {
    shown = seenCertificate(secure);
  });
  const issuer = issuerOf(secure);
  const tooLate = `no answer of ${formatHostPort({ host, port })} in ${WEB_SOCKET_TIMEOUT_MS} ms`;
  const lostBy = (error: unknown): Error => {
    const isRefused = shown !== undefined && !secure.authorized;
    const by = isRefused ? `; the certificate shown is issued by ${shown?.issuer ?? ''}` : '';
    const untrusted = untrustedText(error, { host, caFile: options.caFile, issuer: issuer() });
    const notTls = notTlsText(error, formatHostPort({ host, port }));
    return options.lost(untrusted ?? notTls ?? `${messageOf(error)}${by}`, error);
  };
  const { revocation } = options;
  if (revocation !== undefined && revocation.mode !== 'off') {
    await trusted(secure, raw, revocation, options, tooLate).catch((thrown: unknown) => {
      throw thrown instanceof AppError ? thrown : lostBy(thrown);
    });
  }
  const socket = new WebSocket(`wss://${formatHostPort({ host, port })}${options.path}`, options.protocol, {
    createConnection: () => secure,
    perMessageDeflate: false,
    maxPayload: options.maxMessageBytes,
    followRedirects: false,
    headers: options.headers,
    // The buffer that it is given is all zero.
    ...(options.isUnmasked === true ? { generateMask: () => undefined } : {}),
  });
  return new Promise<T>((resolve, reject) => {
    let settled = false;
    const settle = (): boolean => {
      if (settled) return false;
      settled = true;
      timer.cancel();
      signal?.removeEventListener('abort', onAbort);
      return true;
    };
    const fail = (error: Error): void => {
      if (!settle()) return;
      socket.on('error', () => undefined);
      socket.terminate();
      raw.destroy();
      reject(error);
    };
    const onAbort = (): void => fail(options.lost('closed'));
    const timer = clock.after(WEB_SOCKET_TIMEOUT_MS, () => {
      fail(options.late(tooLate));
    });
    socket.once('open', () => {
      if (settle()) resolve(options.onOpen({ socket, secure, raw }));
    });
    socket.on('error', (error) => fail(lostBy(error)));
    socket.once('close', () => fail(options.lost('connection closed')));
    socket.once('unexpected-response', (_request, response: IncomingMessage) => {
      options
        .refusal(response)
        .then(fail, (thrown: unknown) => fail(options.lost(messageOf(thrown), thrown)));
    });
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted === true) onAbort();
  });
};
