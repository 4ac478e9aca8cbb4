import { isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AppError, type Clock } from '../../runtime/index.ts';
import { type SeenCertificate, seenCertificate } from './certificate.ts';
import { type CarrierErrorCode, dial } from './dial.ts';
import {
  MAX_PROBE_ANSWER_BYTES,
  parseProbeAnswer,
  PROBE_PROTOCOL,
  type ProbeAnswer,
  probePreamble,
} from './preamble.ts';
import type { ProxyFor } from './proxy.ts';

/** From the dialled connection to the end of the answer. */
export const PROBE_ANSWER_TIMEOUT_MS = 5_000;

export interface ProbeOptions {
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Default: the proxies of the environment. */
  readonly proxies?: ProxyFor | undefined;
  /** As a gateway the probe begins with its preamble, as its data links do. */
  readonly isGateway?: boolean;
  /** Called with the certificate before the answer comes, or does not. */
  readonly onCertificate?: (certificate: SeenCertificate) => void;
}

/**
 * Asks who is at `host:port`. The certificate is not checked: the question is who answers there, whoever that is,
 * and nothing is told to it.
 *
 * @throws AppError ERR_CARRIER_DIAL, ERR_CARRIER_PROXY; ERR_CARRIER_DIAL too when what answers is no relay
 */
export const probe = async (host: string, port: number, options: ProbeOptions): Promise<ProbeAnswer> => {
  const { clock, signal, proxies, isGateway = false, onCertificate } = options;
  const raw = await dial(host, port, { clock, signal, proxies });
  const failed = (why: string, cause?: unknown): AppError<CarrierErrorCode> =>
    new AppError('ERR_CARRIER_DIAL', `no answer to a probe of ${host}:${port}: ${why}`, {
      retryable: true,
      cause,
    });
  if (signal.aborted) {
    raw.destroy();
    throw failed('stopped');
  }
  if (isGateway) raw.write(probePreamble());
  const socket = connectTls({
    socket: raw,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ALPNProtocols: [PROBE_PROTOCOL],
    rejectUnauthorized: false,
  });
  const stop = (): void => {
    socket.destroy(failed('stopped'));
  };
  signal.addEventListener('abort', stop, { once: true });
  const timer = clock.after(PROBE_ANSWER_TIMEOUT_MS, () =>
    socket.destroy(failed(`nothing within ${PROBE_ANSWER_TIMEOUT_MS} ms`)),
  );
  socket.once('secureConnect', () => {
    const certificate = seenCertificate(socket);
    if (certificate !== undefined) onCertificate?.(certificate);
    if (socket.alpnProtocol !== PROBE_PROTOCOL) socket.destroy(failed(`it does not speak ${PROBE_PROTOCOL}`));
  });
  try {
    let text = '';
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      text += chunk.toString('latin1');
      if (text.length > MAX_PROBE_ANSWER_BYTES) throw failed(`more than ${MAX_PROBE_ANSWER_BYTES} bytes`);
    }
    const answer = parseProbeAnswer(text);
    if (answer === undefined) throw failed('it is no relay');
    return answer;
  } catch (thrown) {
    throw thrown instanceof AppError ? thrown : failed('it speaks something else', thrown);
  } finally {
    timer.cancel();
    signal.removeEventListener('abort', stop);
    socket.destroy();
    raw.destroy();
  }
};
