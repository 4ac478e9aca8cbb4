import { connect, type Socket } from 'node:net';
import { AppError, type Clock, environment } from '../../runtime/index.ts';

export type CarrierErrorCode = 'ERR_CARRIER_DIAL' | 'ERR_CARRIER_PROXY';

type Environment = Readonly<Record<string, string | undefined>>;

/** The head of a proxy's answer is at most this. */
const MAX_ANSWER_BYTES = 16 * 1024;
const HEAD_END = '\r\n\r\n';

const matches = (pattern: string, host: string, port: number): boolean => {
  const [name = '', wantedPort] = pattern
    .trim()
    .toLowerCase()
    .split(/:(?=\d+$)/);
  if (wantedPort !== undefined && wantedPort !== String(port)) return false;
  if (name === '*') return true;
  const bare = name.replace(/^\*?\./, '');
  return bare !== '' && (host === bare || host.endsWith(`.${bare}`));
};

/** The proxy of `HTTPS_PROXY` for a destination, unless `NO_PROXY` names it. Only `http://` proxies are known. */
export const proxyFor = (host: string, port: number, from: Environment = environment): URL | undefined => {
  const text = from['HTTPS_PROXY'] ?? from['https_proxy'];
  if (text === undefined || text === '') return undefined;
  const excluded = from['NO_PROXY'] ?? from['no_proxy'] ?? '';
  if (excluded.split(',').some((pattern) => matches(pattern, host.toLowerCase(), port))) return undefined;
  const proxy = URL.canParse(text) ? new URL(text) : undefined;
  if (proxy?.protocol !== 'http:') {
    throw new AppError<CarrierErrorCode>('ERR_CARRIER_PROXY', 'HTTPS_PROXY is not an http:// address');
  }
  return proxy;
};

const authorizationOf = (proxy: URL): string => {
  if (proxy.username === '') return '';
  const pair = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return `Proxy-Authorization: Basic ${Buffer.from(pair).toString('base64')}\r\n`;
};

/** Reads the proxy's answer to CONNECT; bytes beyond it go back into the socket. */
const readAnswer = (socket: Socket): Promise<void> =>
  new Promise((resolve, reject) => {
    let head = Buffer.alloc(0);
    const done = (): void => {
      socket.off('data', onData).off('close', onClose);
      socket.pause();
    };
    const fail = (message: string): void => {
      done();
      reject(new AppError<CarrierErrorCode>('ERR_CARRIER_PROXY', message, { retryable: true }));
    };
    const onClose = (): void => fail('proxy closed the connection before it answered');
    const onData = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf(HEAD_END);
      if (end === -1) {
        if (head.length > MAX_ANSWER_BYTES) fail(`proxy answered more than ${MAX_ANSWER_BYTES} bytes`);
        return;
      }
      const status = /^HTTP\/1\.[01] (\d{3})/.exec(head.toString('latin1', 0, end))?.[1] ?? 'nothing known';
      if (status !== '200') {
        fail(`proxy answered ${status}`);
        return;
      }
      done();
      const rest = head.subarray(end + HEAD_END.length);
      if (rest.length > 0) socket.unshift(rest);
      resolve();
    };
    socket.on('data', onData).on('close', onClose);
  });

/** How long one try to reach one port may take. */
export const DIAL_TIMEOUT_MS = 5_000;

/**
 * Connects to `host:port`, through the proxy of the environment when there is one. The socket has TCP_NODELAY and
 * half-open set, is paused, and carries an error listener of its own, so that it can be handed on.
 *
 * @throws AppError ERR_CARRIER_DIAL, ERR_CARRIER_PROXY
 */
export const dial = async (
  host: string,
  port: number,
  options: {
    readonly clock: Clock;
    readonly proxyEnvironment?: Environment;
    /** Ends the try. */
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Socket> => {
  const proxy = proxyFor(host, port, options.proxyEnvironment);
  const first =
    proxy === undefined
      ? { host, port }
      : { host: proxy.hostname.replace(/^\[|\]$/g, ''), port: Number(proxy.port || '80') };
  const socket = connect({ ...first, noDelay: true, allowHalfOpen: true, keepAlive: true });
  let failure: Error | undefined;
  socket.on('error', (error) => {
    failure = error;
  });
  const timer = options.clock.after(DIAL_TIMEOUT_MS, () => {
    failure = new Error(`no answer within ${DIAL_TIMEOUT_MS} ms`);
    socket.destroy();
  });
  const stop = (): void => {
    failure = new Error('stopped');
    socket.destroy();
  };
  if (options.signal?.aborted === true) stop();
  options.signal?.addEventListener('abort', stop, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      const onClose = (): void =>
        reject(
          new AppError<CarrierErrorCode>(
            'ERR_CARRIER_DIAL',
            `cannot connect to ${first.host}:${first.port}: ${failure?.message ?? 'closed'}`,
            { retryable: true, cause: failure },
          ),
        );
      socket.once('close', onClose);
      socket.once('connect', () => {
        socket.off('close', onClose);
        resolve();
      });
    });
    if (proxy !== undefined) {
      const authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
      socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${authorizationOf(proxy)}\r\n`);
      await readAnswer(socket);
    }
    return socket;
  } catch (thrown) {
    socket.destroy();
    throw thrown;
  } finally {
    timer.cancel();
    options.signal?.removeEventListener('abort', stop);
  }
};
