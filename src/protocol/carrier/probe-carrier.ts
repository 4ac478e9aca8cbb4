import { once } from 'node:events';
import type { WebSocket } from 'ws';
import { AppError, type Clock, messageOf } from '../../runtime/index.ts';
import { type SeenCertificate, seenCertificate } from './certificate.ts';
import type { CarrierChoice } from './choice.ts';
import type { CarrierErrorCode } from './dial.ts';
import { openWebSocket } from './open-web-socket.ts';
import {
  LINK_PROTOCOL,
  MAX_PROBE_ANSWER_BYTES,
  parseProbeAnswer,
  PROBE_PATH,
  type ProbeAnswer,
} from './preamble.ts';
import type { ProxyFor } from './proxy.ts';
import { probe, PROBE_ANSWER_TIMEOUT_MS } from './probe.ts';

export interface ProbeCarrierOptions {
  readonly host: string;
  readonly choice: CarrierChoice;
  readonly side: 'gateway' | 'agent';
  /** PEM of the authorities to trust instead of the system's; the WebSocket's certificate is checked. */
  readonly ca: string | undefined;
  /** SHA-256 of the node's SPKI as it told over its control link; undefined when it did not. */
  readonly told: string | undefined;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly proxies: ProxyFor | undefined;
}

export interface ProbeResult {
  /** Why no data link would come to the node this way; undefined when one would. */
  readonly failure: string | undefined;
  /** The issuer of the certificate that was shown in place of the node's; undefined when the node's own was. */
  readonly interceptedBy: string | undefined;
}

const readMessage = async (socket: WebSocket, clock: Clock): Promise<string> => {
  const late = clock.after(PROBE_ANSWER_TIMEOUT_MS, () => socket.terminate());
  try {
    const stop = new AbortController();
    socket.once('close', () => stop.abort());
    const [data] = (await once(socket, 'message', { signal: stop.signal })) as [Buffer];
    return data.toString('latin1');
  } finally {
    late.cancel();
    socket.terminate();
  }
};

/** The same question over the carrier of last resort: whether a WebSocket comes up all the way, and who answers. */
const probeWebSocket = (
  { host, choice: { port }, ca, clock, signal, proxies }: ProbeCarrierOptions,
  onCertificate: (certificate: SeenCertificate) => void,
): Promise<ProbeAnswer> => {
  const failed = (detail: string, cause?: unknown): AppError<CarrierErrorCode> =>
    new AppError('ERR_CARRIER_DIAL', `no WebSocket to ${host}:${port}: ${detail}`, {
      retryable: true,
      cause,
    });
  return openWebSocket({
    host,
    port,
    path: PROBE_PATH,
    protocol: LINK_PROTOCOL,
    headers: {},
    maxMessageBytes: MAX_PROBE_ANSWER_BYTES,
    ca,
    clock,
    signal,
    proxies,
    onOpen: async ({ socket, secure }) => {
      const certificate = seenCertificate(secure);
      if (certificate !== undefined) onCertificate(certificate);
      const text = await readMessage(socket, clock).catch((cause: unknown) => {
        throw failed('nothing came over it', cause);
      });
      const answer = parseProbeAnswer(text);
      if (answer === undefined) throw failed('it is no relay');
      return answer;
    },
    refusal: (response) => {
      response.resume();
      return Promise.resolve(failed(`answered ${response.statusCode ?? 0}`));
    },
    lost: failed,
    late: failed,
  });
};

/** Whether a data link would come to the node this way, and whether something on the way speaks TLS in its place. Never rejects. */
export const probeCarrier = async (options: ProbeCarrierOptions): Promise<ProbeResult> => {
  const { host, choice, side, told, clock, signal, proxies } = options;
  let seen: SeenCertificate | undefined;
  const onCertificate = (certificate: SeenCertificate): void => {
    seen = certificate;
  };
  /** The issuer, when the certificate is not the node's own as far as anybody has said. */
  const foreignIssuer = (own: string | undefined): string | undefined =>
    seen === undefined || own === undefined || own === seen.spki ? undefined : seen.issuer;
  try {
    const answer =
      choice.kind === 'tcp'
        ? await probe(host, choice.port, {
            clock,
            signal,
            proxies,
            isGateway: side === 'gateway',
            onCertificate,
          })
        : await probeWebSocket(options, onCertificate);
    const interceptedBy = foreignIssuer(answer.spki ?? told);
    if (answer.host !== host) return { failure: `node ${answer.host} answers there`, interceptedBy };
    // Over TCP the ends' own TLS is what would be intercepted.
    const isBroken = interceptedBy !== undefined && choice.kind === 'tcp';
    return { failure: isBroken ? `intercepted by ${interceptedBy}` : undefined, interceptedBy };
  } catch (thrown) {
    const interceptedBy = foreignIssuer(told);
    const detail = messageOf(thrown);
    return {
      failure: interceptedBy === undefined ? detail : `intercepted by ${interceptedBy}: ${detail}`,
      interceptedBy,
    };
  }
};
