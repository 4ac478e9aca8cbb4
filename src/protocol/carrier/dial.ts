import { connect, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AppError, type Clock, formatHostPort, messageOf } from '../../runtime/index.ts';
import { askForTunnel } from './connect-tunnel.ts';
import { environmentProxy, type Proxy, type ProxyErrorCode, type ProxyFor } from './proxy.ts';

export type CarrierErrorCode = 'ERR_CARRIER_DIAL' | ProxyErrorCode;

/** How long one try to reach one port may take, a proxy on the way included. */
export const DIAL_TIMEOUT_MS = 5_000;

const DEFAULT_PORT = { 'http:': 80, 'https:': 443 } as const;

export interface DialOptions {
  readonly clock: Clock;
  /** Default: the proxies of the environment. */
  readonly proxies?: ProxyFor | undefined;
  /** Ends the try. */
  readonly signal?: AbortSignal | undefined;
}

const addressOf = ({ url }: Proxy): { readonly host: string; readonly port: number } => {
  const scheme = url.protocol === 'https:' ? url.protocol : 'http:';
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port) || DEFAULT_PORT[scheme] };
};

/** Resolves with the event; rejects when the socket closes before it. */
const opened = (socket: Socket, event: 'connect' | 'secureConnect', closed: () => Error): Promise<void> =>
  new Promise((resolve, reject) => {
    const onClose = (): void => reject(closed());
    socket.once('close', onClose);
    socket.once(event, () => {
      socket.off('close', onClose);
      resolve();
    });
  });

/** TLS to the proxy itself. What goes through it is reset by resetting the connection to the proxy. */
const secureTo = async (raw: Socket, proxy: Proxy): Promise<Socket> => {
  const { host } = addressOf(proxy);
  const ca = await proxy.ca();
  const secure = connectTls({
    socket: raw,
    host,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ALPNProtocols: ['http/1.1'],
    minVersion: 'TLSv1.2',
    ...(ca === undefined ? {} : { ca }),
  });
  let failure: unknown;
  secure.on('error', (error) => {
    failure = error;
  });
  secure.resetAndDestroy = () => {
    raw.resetAndDestroy();
    return secure.destroy();
  };
  await opened(secure, 'secureConnect', () => {
    const message = `no TLS to the proxy ${proxy.url.host}: ${messageOf(failure ?? 'closed')}`;
    return new AppError<CarrierErrorCode>('ERR_CARRIER_PROXY', message, { retryable: true, cause: failure });
  });
  return secure;
};

/**
 * Connects to `host:port`, through a proxy where one is on the way. The socket has TCP_NODELAY and half-open set, is
 * paused, and carries an error listener of its own, so that it can be handed on.
 *
 * @throws AppError ERR_CARRIER_DIAL, ERR_CARRIER_PROXY
 */
export const dial = async (host: string, port: number, options: DialOptions): Promise<Socket> => {
  const { clock, signal, proxies = environmentProxy() } = options;
  const proxy = proxies(host, port);
  const first = proxy === undefined ? { host, port } : addressOf(proxy);
  const socket = connect({ ...first, noDelay: true, allowHalfOpen: true, keepAlive: true });
  let failure: Error | undefined;
  socket.on('error', (error) => {
    failure = error;
  });
  const timer = clock.after(DIAL_TIMEOUT_MS, () => {
    failure = new Error(`no answer within ${DIAL_TIMEOUT_MS} ms`);
    socket.destroy();
  });
  const stop = (): void => {
    failure = new Error('stopped');
    socket.destroy();
  };
  if (signal?.aborted === true) stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    await opened(socket, 'connect', () => {
      const message = `cannot connect to ${formatHostPort(first)}: ${failure?.message ?? 'closed'}`;
      return new AppError<CarrierErrorCode>('ERR_CARRIER_DIAL', message, { retryable: true, cause: failure });
    });
    if (proxy === undefined) return socket;
    const stream = proxy.url.protocol === 'https:' ? await secureTo(socket, proxy) : socket;
    await askForTunnel(stream, proxy, { host, port });
    return stream;
  } catch (thrown) {
    socket.destroy();
    throw thrown;
  } finally {
    timer.cancel();
    signal?.removeEventListener('abort', stop);
  }
};
