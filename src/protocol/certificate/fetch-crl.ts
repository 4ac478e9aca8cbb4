import { type IncomingMessage, request } from 'node:http';
import { AppError, type Clock, environment, messageOf } from '../../runtime/index.ts';
import { dial } from '../carrier/dial.ts';
import { environmentProxy, noProxy, type Proxy, type ProxyFor } from '../carrier/proxy.ts';

/** Largest list that is taken. The largest in use have some 10 MiB; authorities split them into parts long before. */
export const MAX_CRL_BYTES = 16 * 1024 * 1024;
/** From the first connection to the last byte, all addresses of a certificate together; the relay waits 10 s for a login. */
export const CRL_FETCH_TIMEOUT_MS = 4_000;
/** A list that has moved is followed this often, over plain HTTP only: it is signed, and TLS would need a list itself. */
const MAX_REDIRECTS = 3;
const HTTP_PORT = 80;

export type CrlErrorCode = 'ERR_CRL_UNREACHABLE';
type Environment = Readonly<Record<string, string | undefined>>;

export interface FetchOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly proxyEnvironment?: Environment | undefined;
  /** In place of those of the environment. */
  readonly proxies?: ProxyFor | undefined;
}

const failed = (url: URL, why: string, cause?: unknown): AppError<CrlErrorCode> =>
  new AppError('ERR_CRL_UNREACHABLE', `no CRL from ${url.href}: ${why}`, { retryable: true, cause });

/** The proxy for plain HTTP: that of `http_proxy`, else the one that everything else goes through. */
const proxiesOf = (from: Environment): ProxyFor =>
  environmentProxy({
    https_proxy: from['http_proxy'] ?? from['HTTP_PROXY'] ?? from['https_proxy'] ?? from['HTTPS_PROXY'],
    no_proxy: from['no_proxy'] ?? from['NO_PROXY'],
  });

const bare = (host: string): string => host.replace(/^\[|\]$/g, '');

const authorization = async (proxy: Proxy): Promise<Record<string, string>> => {
  const pair = await proxy.credentials();
  return pair === undefined ? {} : { 'proxy-authorization': `Basic ${Buffer.from(pair).toString('base64')}` };
};

const ask = async (url: URL, options: FetchOptions): Promise<IncomingMessage> => {
  const { clock, signal } = options;
  const host = bare(url.hostname);
  const port = Number(url.port || HTTP_PORT);
  const proxy = (options.proxies ?? proxiesOf(options.proxyEnvironment ?? environment))(host, port);
  const target =
    proxy === undefined
      ? { host, port }
      : { host: bare(proxy.url.hostname), port: Number(proxy.url.port || HTTP_PORT) };
  const socket = await dial(target.host, target.port, { clock, signal, proxies: noProxy });
  const headers = { host: url.host, ...(proxy === undefined ? {} : await authorization(proxy)) };
  const path = proxy === undefined ? `${url.pathname}${url.search}` : url.href;
  return new Promise((resolve, reject) => {
    const asked = request({ createConnection: () => socket, path, headers, signal });
    asked.once('response', resolve).once('error', (error) => {
      socket.destroy();
      reject(error);
    });
    asked.end();
  });
};

const body = async (url: URL, response: IncomingMessage): Promise<Buffer> => {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_CRL_BYTES) throw failed(url, `it has more than ${MAX_CRL_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
};

const PEM = /-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]+)-----END X509 CRL-----/;

/** Lists are DER (RFC 5280 §4.2.1.13); some private authorities serve PEM. */
const derOf = (bytes: Buffer): Buffer => {
  if (bytes[0] !== '-'.charCodeAt(0)) return bytes;
  const text = PEM.exec(bytes.toString('latin1'))?.[1];
  return text === undefined ? bytes : Buffer.from(text, 'base64');
};

/**
 * Fetches a certificate revocation list over HTTP; nothing about it is checked but its size.
 *
 * @throws AppError ERR_CRL_UNREACHABLE
 */
export const fetchCrl = async (address: string, options: FetchOptions): Promise<Buffer> => {
  let url = new URL(address);
  try {
    for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects += 1) {
      const response = await ask(url, options);
      const { statusCode = 0 } = response;
      if (statusCode === 200) return derOf(await body(url, response));
      response.destroy();
      const { location } = response.headers;
      if (statusCode < 300 || statusCode > 399 || location === undefined)
        throw failed(url, `the server answered ${String(statusCode)}`);
      const next = new URL(location, url);
      if (next.protocol !== 'http:')
        throw failed(url, `it redirects to ${next.protocol}, which is not followed`);
      url = next;
    }
    throw failed(url, `more than ${MAX_REDIRECTS} redirects`);
  } catch (thrown) {
    throw thrown instanceof AppError && thrown.code === 'ERR_CRL_UNREACHABLE'
      ? thrown
      : failed(url, options.signal.aborted ? 'no answer in time' : messageOf(thrown), thrown);
  }
};
