import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { LINK_PROTOCOL } from './preamble.ts';
import { MAX_CARRIER_MESSAGE_BYTES, WebSocketCarrier } from './web-socket-carrier.ts';

/** Path of the WebSocket of a data carrier on a relay node. */
export const LINK_PATH = '/.sallyport/v1/link';
/** Header of its handshake: the rendezvous token of this side. */
export const TOKEN_HEADER = 'sallyport-token';

/** Makes carriers of upgrade requests; who may come is decided by the caller. */
export interface CarrierServer {
  /**
   * Completes the upgrade. Synchronous, so that a check made in the same tick still holds.
   *
   * @param reset resets the TCP connection of the request
   * @returns undefined when the request is no WebSocket handshake; it has been answered then
   */
  accept(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    reset: () => void,
  ): WebSocketCarrier | undefined;
  /** Completes the upgrade, sends one message and closes. */
  answer(request: IncomingMessage, socket: Duplex, head: Buffer, text: string): void;
}

export const acceptCarriers = (): CarrierServer => {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_CARRIER_MESSAGE_BYTES,
    handleProtocols: () => LINK_PROTOCOL,
  });
  return {
    accept(request, socket, head, reset) {
      let carrier: WebSocketCarrier | undefined;
      server.handleUpgrade(request, socket, head, (webSocket) => {
        carrier = new WebSocketCarrier(webSocket, reset);
      });
      return carrier;
    },
    answer(request, socket, head, text) {
      server.handleUpgrade(request, socket, head, (webSocket) => {
        webSocket.on('error', () => webSocket.terminate());
        webSocket.send(Buffer.from(text));
        webSocket.close();
      });
    },
  };
};
