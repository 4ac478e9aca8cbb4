import { isIP } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { AppError, type Clock } from '../../runtime/index.ts';
import { type CarrierErrorCode, dial } from './dial.ts';
import { MAX_PROBE_ANSWER_BYTES, parseProbeAnswer, PROBE_PROTOCOL } from './preamble.ts';

/** From the dialled connection to the end of the answer. */
export const PROBE_ANSWER_TIMEOUT_MS = 5_000;

/** Who answered a probe. */
export interface ProbeAnswer {
  /** The public host that the node has by its own configuration. */
  readonly host: string;
  /** Which run of which process; undefined for an earlier build. */
  readonly run: string | undefined;
}

/**
 * Asks who is at `host:port`. The certificate is not checked: the question is who answers there, whoever that is,
 * and nothing is told to it.
 *
 * @throws AppError ERR_CARRIER_DIAL, ERR_CARRIER_PROXY; ERR_CARRIER_DIAL too when what answers is no relay
 */
export const probe = async (
  host: string,
  port: number,
  options: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<ProbeAnswer> => {
  const raw = await dial(host, port, options);
  const failed = (why: string, cause?: unknown): AppError<CarrierErrorCode> =>
    new AppError('ERR_CARRIER_DIAL', `no answer to a probe of ${host}:${port}: ${why}`, {
      retryable: true,
      cause,
    });
  if (options.signal.aborted) {
    raw.destroy();
    throw failed('stopped');
  }
  const socket = connectTls({
    socket: raw,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ALPNProtocols: [PROBE_PROTOCOL],
    rejectUnauthorized: false,
  });
  const stop = (): void => {
    socket.destroy(failed('stopped'));
  };
  options.signal.addEventListener('abort', stop, { once: true });
  const timer = options.clock.after(PROBE_ANSWER_TIMEOUT_MS, () =>
    socket.destroy(failed(`nothing within ${PROBE_ANSWER_TIMEOUT_MS} ms`)),
  );
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
    options.signal.removeEventListener('abort', stop);
    socket.destroy();
    raw.destroy();
  }
};
