import type { Duplex } from 'node:stream';
import { AppError, formatHostPort } from '../../runtime/index.ts';
import type { Proxy, ProxyErrorCode } from './proxy.ts';

/** The head of a proxy's answer is at most this. */
const MAX_ANSWER_BYTES = 16 * 1024;
const HEAD_END = '\r\n\r\n';
const OK = '200';
const CREDENTIALS_WANTED = '407';

const failed = (message: string): AppError<ProxyErrorCode> =>
  new AppError('ERR_CARRIER_PROXY', message, { retryable: true });

/** Reads the proxy's answer to CONNECT, up to its end; bytes beyond it go back into the stream. */
const readStatus = (stream: Duplex): Promise<string> =>
  new Promise((resolve, reject) => {
    let head = Buffer.alloc(0);
    const done = (): void => {
      stream.off('data', onData).off('end', onClose).off('close', onClose);
      stream.pause();
    };
    const fail = (message: string): void => {
      done();
      reject(failed(message));
    };
    const onClose = (): void => fail('proxy closed the connection before it answered');
    const onData = (chunk: Buffer): void => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf(HEAD_END);
      if (end === -1) {
        if (head.length > MAX_ANSWER_BYTES) fail(`proxy answered more than ${MAX_ANSWER_BYTES} bytes`);
        return;
      }
      done();
      const rest = head.subarray(end + HEAD_END.length);
      if (rest.length > 0) stream.unshift(rest);
      resolve(/^HTTP\/1\.[01] (\d{3})/.exec(head.toString('latin1', 0, end))?.[1] ?? 'nothing known');
    };
    stream.on('data', onData).on('end', onClose).on('close', onClose);
  });

/**
 * Asks a proxy over a connection to it for the way to `host:port`. The stream is paused afterwards and carries what
 * the destination sends.
 *
 * @throws AppError ERR_CARRIER_PROXY
 */
export const askForTunnel = async (
  stream: Duplex,
  proxy: Proxy,
  destination: { readonly host: string; readonly port: number },
): Promise<void> => {
  const authority = formatHostPort(destination);
  const credentials = await proxy.credentials();
  const basic = credentials === undefined ? undefined : Buffer.from(credentials).toString('base64');
  const authorization = basic === undefined ? '' : `Proxy-Authorization: Basic ${basic}\r\n`;
  stream.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${authorization}\r\n`);
  const status = await readStatus(stream);
  if (status === OK) return;
  const about =
    status !== CREDENTIALS_WANTED
      ? ''
      : basic === undefined
        ? `: ${proxy.url.host} wants credentials, in its address or in credentials_file`
        : `: ${proxy.url.host} refuses the credentials that it was given`;
  throw failed(`proxy answered ${status}${about}`);
};
