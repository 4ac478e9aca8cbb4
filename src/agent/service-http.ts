import { type IncomingMessage, request as plainRequest } from 'node:http';
import { type RequestOptions, request as tlsRequest } from 'node:https';
import { isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { dial } from '../protocol/index.ts';
import { AppError, type Clock, isAppError, messageOf } from '../runtime/index.ts';
import type { AgentErrorCode } from './errors.ts';
import type { ServiceAccess } from './service-access.ts';

const HTTPS_PORT = 443;

/** One request to a server of OPA's management APIs. */
export interface ServiceRequest extends ServiceAccess {
  readonly url: URL;
  readonly signal: AbortSignal;
}

/** What is asked, within which limits, and what a failure is called. */
export interface ServiceAsk<T> {
  readonly method: 'GET' | 'POST';
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  /** A server that sends nothing for this long is given up. */
  readonly silenceMs: number;
  /** From the request to the last byte that is read. */
  readonly totalMs: number;
  readonly code: AgentErrorCode;
  readonly read: (response: IncomingMessage) => T | Promise<T>;
}

/** A connection through the proxy for this address; undefined when it is reached directly. */
const tunnelTo = async (
  { url, proxies }: ServiceRequest,
  host: string,
  clock: Clock,
  signal: AbortSignal,
): Promise<Socket | undefined> => {
  if (url.protocol !== 'https:') return undefined;
  const port = Number(url.port || HTTPS_PORT);
  return proxies(host, port) === undefined ? undefined : dial(host, port, { clock, signal, proxies });
};

/** The server's own TLS inside the tunnel: the proxy sees neither request nor token. */
const through = (
  tunnel: Socket,
  host: string,
  { ca, clientCertificate }: ServiceRequest,
): RequestOptions => ({
  createConnection: () =>
    connectTls({
      socket: tunnel,
      host,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      minVersion: 'TLSv1.2',
      ...(ca === undefined ? {} : { ca }),
      ...clientCertificate,
    }),
});

const send = (
  url: URL,
  options: RequestOptions,
  { body, silenceMs, code }: Pick<ServiceAsk<unknown>, 'body' | 'silenceMs' | 'code'>,
): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const start = url.protocol === 'http:' ? plainRequest : tlsRequest;
    const sent = start(url, options, resolve);
    sent.on('error', reject);
    sent.setTimeout(silenceMs, () =>
      sent.destroy(new AppError(code, `the server is silent for ${String(silenceMs)} ms`)),
    );
    sent.end(body);
  });

/**
 * Asks a server once, over a connection of its own. No redirect is followed.
 * @throws AppError with the code of `ask`
 */
export const askService = async <T>(
  request: ServiceRequest,
  ask: ServiceAsk<T>,
  clock: Clock,
): Promise<T> => {
  const { url, token, ca, clientCertificate } = request;
  const { method, headers, code, totalMs } = ask;
  const late = new AbortController();
  const timer = clock.after(totalMs, () =>
    late.abort(new AppError(code, `no whole answer within ${String(totalMs)} ms`)),
  );
  const signal = AbortSignal.any([request.signal, late.signal]);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const options: RequestOptions = {
    method,
    headers: {
      'user-agent': 'sallyport-agent',
      ...headers,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    signal,
    minVersion: 'TLSv1.2',
    ...(ca === undefined ? {} : { ca }),
    ...clientCertificate,
  };
  let response: IncomingMessage | undefined;
  let tunnel: Socket | undefined;
  try {
    tunnel = await tunnelTo(request, host, clock, signal);
    // A connection of its own each time: the next request is half a minute away.
    const by = tunnel === undefined ? { agent: false as const } : through(tunnel, host, request);
    response = await send(url, { ...options, ...by }, ask);
    return await ask.read(response);
  } catch (error) {
    if (late.signal.aborted) throw late.signal.reason as Error;
    if (isAppError(error, code)) throw error;
    throw new AppError(code, messageOf(error), { cause: error });
  } finally {
    timer.cancel();
    response?.destroy();
    tunnel?.destroy();
  }
};
