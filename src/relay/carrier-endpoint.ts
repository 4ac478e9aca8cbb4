import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import {
  acceptCarriers,
  LINK_PROTOCOL,
  PROBE_PATH,
  type Problem,
  refuseUpgrade,
  ROLE_HEADER,
  type Side,
  TOKEN_HEADER,
  TOKEN_PATTERN,
} from '../protocol/index.ts';
import { type ResettableStream, resetSocket } from '../runtime/index.ts';
import { pathOf } from './own-https.ts';
import type { RawSockets } from './raw-sockets.ts';

const NOTHING_READ = Buffer.alloc(0);

export interface CarrierEndpointOptions {
  readonly raws: RawSockets;
  /** What probes are answered with. */
  readonly probeAnswer: () => string;
  /** Whether this token is good for this side now. */
  readonly expects: (side: Side, token: string) => boolean;
  readonly onCarrier: (side: Side, token: string, carrier: ResettableStream, head: Buffer) => void;
}

/** Takes data carriers that come as WebSockets, and answers their probes. Nobody waits here: a token is good in this tick, or it is refused. */
export class CarrierEndpoint {
  readonly #options: CarrierEndpointOptions;
  readonly #server = acceptCarriers();

  constructor(options: CarrierEndpointOptions) {
    this.#options = options;
  }

  /** Takes an HTTP upgrade request; answers it in every case. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    const { raws, expects, onCarrier } = this.#options;
    if (pathOf(request) === PROBE_PATH) {
      this.#server.answer(request, socket, head, this.#options.probeAnswer());
      return;
    }
    const shown = this.#parse(request);
    if ('status' in shown) {
      refuseUpgrade(socket, shown);
      return;
    }
    const { side, token } = shown;
    if (!expects(side, token)) {
      const detail = 'the token is unknown, used, too old, or of the other side';
      refuseUpgrade(socket, { status: 404, code: 'token_unknown', detail });
      return;
    }
    const raw = raws.under(request.socket);
    const carrier = this.#server.accept(request, socket, head, () => {
      if (raw !== undefined) resetSocket(raw);
    });
    if (carrier !== undefined) onCarrier(side, token, carrier, NOTHING_READ);
  }

  #parse({ headers }: IncomingMessage): { readonly side: Side; readonly token: string } | Problem {
    const protocols = (headers['sec-websocket-protocol'] ?? '').split(',').map((text) => text.trim());
    if (headers.upgrade?.toLowerCase() !== 'websocket' || !protocols.includes(LINK_PROTOCOL)) {
      const detail = `a WebSocket of subprotocol ${LINK_PROTOCOL} is served here`;
      return { status: 426, code: 'upgrade_required', detail };
    }
    const side = headers[ROLE_HEADER];
    if (side !== 'agent' && side !== 'gateway') {
      const detail = `header ${ROLE_HEADER} is neither agent nor gateway`;
      return { status: 400, code: 'role_missing', detail };
    }
    const token = headers[TOKEN_HEADER];
    if (typeof token !== 'string' || !TOKEN_PATTERN.test(token)) {
      const detail = `header ${TOKEN_HEADER} is not 32 lower-case hex digits`;
      return { status: 400, code: 'token_malformed', detail };
    }
    return { side, token };
  }
}
