import { AppError, type Clock, type ResettableStream } from '../../runtime/index.ts';
import { LINK_PATH, TOKEN_HEADER } from './accept-web-socket.ts';
import type { ServerRevocation } from '../certificate/server-revocation.ts';
import type { CarrierChoice } from './choice.ts';
import { type CarrierErrorCode, dial } from './dial.ts';
import { openWebSocket } from './open-web-socket.ts';
import { LINK_PROTOCOL, ROLE_HEADER } from './preamble.ts';
import type { ProxyFor } from './proxy.ts';
import { MAX_CARRIER_MESSAGE_BYTES, WebSocketCarrier } from './web-socket-carrier.ts';

/** The bytes of a data link at one of its ends. */
export interface CarrierStream extends ResettableStream {
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

/** A carrier that has reached the node. */
export interface OpenCarrier {
  readonly choice: CarrierChoice;
  readonly stream: CarrierStream;
  /** What went over `stream` before the data link: a proxy was asked for the way. */
  readonly bytesBefore: { readonly read: number; readonly written: number };
}

export interface OpenCarrierOptions {
  readonly host: string;
  readonly choice: CarrierChoice;
  readonly side: 'gateway' | 'agent';
  readonly token: string;
  readonly ca: string | undefined;
  /** Asked about the node's certificate before the token is told to it. */
  readonly revocation: ServerRevocation | undefined;
  readonly clock: Clock;
  readonly signal: AbortSignal | undefined;
  readonly proxies: ProxyFor | undefined;
}

/**
 * Brings a carrier to the node. Over TCP nothing is sent yet; in the handshake of the WebSocket the token is.
 *
 * @throws AppError ERR_CARRIER_DIAL, ERR_CARRIER_PROXY, ERR_CERTIFICATE_REVOKED, ERR_CERTIFICATE_REVOCATION_UNKNOWN
 */
export const openCarrier = async (options: OpenCarrierOptions): Promise<OpenCarrier> => {
  const { host, choice, side, token, ca, revocation, clock, signal, proxies } = options;
  const { port } = choice;
  if (choice.kind === 'tcp') {
    const socket = await dial(host, port, { clock, signal, proxies });
    const bytesBefore = { read: socket.bytesRead - socket.readableLength, written: socket.bytesWritten };
    return { choice, stream: socket, bytesBefore };
  }
  const failed = (detail: string, cause?: unknown): AppError<CarrierErrorCode> =>
    new AppError('ERR_CARRIER_DIAL', `no WebSocket to ${host}:${port}: ${detail}`, {
      retryable: true,
      cause,
    });
  const stream = await openWebSocket({
    host,
    port,
    path: LINK_PATH,
    protocol: LINK_PROTOCOL,
    headers: { [ROLE_HEADER]: side, [TOKEN_HEADER]: token },
    maxMessageBytes: MAX_CARRIER_MESSAGE_BYTES,
    ca,
    revocation,
    clock,
    signal,
    proxies,
    isUnmasked: true,
    onOpen: ({ socket, raw }) => new WebSocketCarrier(socket, () => raw.resetAndDestroy()),
    refusal: (response) => {
      response.resume();
      return Promise.resolve(failed(`answered ${response.statusCode ?? 0}`));
    },
    lost: failed,
    late: failed,
  });
  return { choice, stream, bytesBefore: { read: 0, written: 0 } };
};
