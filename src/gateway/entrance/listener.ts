import { createServer, type Server, type Socket } from 'node:net';
import { canonicalAddress, formatHostPort, listenOn, type Logger, messageOf } from '../../runtime/index.ts';
import type { ClientList } from './client-list.ts';
import type { EntranceCause, EntranceKind, Refusals } from './refusals.ts';

/** Keep-alive probes start after this much silence on an application's socket. */
const KEEP_ALIVE_MS = 30_000;

export interface ListenerOptions {
  readonly kind: EntranceKind;
  /** For messages: `connection orders-db`, `socks5`. */
  readonly what: string;
  /** Whom it takes connections of; others are reset at once. */
  readonly clients: ClientList;
  readonly refusals: Refusals;
  readonly logger: Logger;
  /** Takes each socket paused, half-open-capable, with Nagle off. */
  readonly onSocket: (socket: Socket) => void;
}

/** One listener for applications, of whatever kind. */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #server: Server;
  #listen = '';

  constructor(options: ListenerOptions) {
    const { what, logger } = options;
    this.#options = options;
    this.#server = createServer(
      {
        pauseOnConnect: true,
        allowHalfOpen: true,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: KEEP_ALIVE_MS,
      },
      (socket) => this.#onSocket(socket),
    );
    this.#server.on('error', (error) => {
      if (this.#listen !== '') logger.error({ what, err: messageOf(error) }, 'listener failed');
    });
  }

  /** `ADDR:PORT` as bound; empty before. */
  get listen(): string {
    return this.#listen;
  }

  /** As configured. */
  get clients(): readonly string[] {
    return this.#options.clients.texts;
  }

  /** @throws AppError ERR_LISTEN_REFUSED, ERR_CONFIG_HOST_PORT */
  async open(listen: string): Promise<void> {
    const bound = await listenOn(this.#server, listen, this.#options.what);
    this.#listen = formatHostPort(bound);
  }

  /** Accepts no more; sockets accepted before are not touched. */
  close(): void {
    if (this.#server.listening) this.#server.close();
  }

  /** Counts, and logs now and then, that a client was refused. */
  note(socket: Socket, cause: EntranceCause, detail?: string): void {
    const { kind, refusals } = this.#options;
    const { remoteAddress } = socket;
    const address = remoteAddress === undefined ? undefined : canonicalAddress(remoteAddress);
    refusals.note(kind, cause, { address, at: this.#listen }, detail);
  }

  #onSocket(socket: Socket): void {
    // A client that has gone already has no address to ask for, and nothing to say.
    if (this.#options.clients.has(socket.remoteAddress)) {
      this.#options.onSocket(socket);
      return;
    }
    this.note(socket, 'client_address');
    socket.on('error', ignore);
    socket.resetAndDestroy();
  }
}

const ignore = (): void => undefined;
