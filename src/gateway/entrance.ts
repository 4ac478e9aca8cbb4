import { createServer, type Server, type Socket } from 'node:net';
import { formatHostPort, listenOn, type Logger, messageOf } from '../runtime/index.ts';

/** Keep-alive probes start after this much silence on an application's socket. */
const KEEP_ALIVE_MS = 30_000;

/** One listener for the applications of one connection. */
export class Entrance {
  readonly connection: string;
  readonly #server: Server;
  #listen = '';

  /** @param onSocket takes each socket paused, half-open-capable, with Nagle off */
  constructor(connection: string, logger: Logger, onSocket: (socket: Socket) => void) {
    this.connection = connection;
    this.#server = createServer(
      {
        pauseOnConnect: true,
        allowHalfOpen: true,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: KEEP_ALIVE_MS,
      },
      onSocket,
    );
    this.#server.on('error', (error) => {
      if (this.#listen !== '') logger.error({ connection, err: messageOf(error) }, 'listener failed');
    });
  }

  /** `ADDR:PORT` as bound. */
  get listen(): string {
    return this.#listen;
  }

  /** @throws AppError ERR_LISTEN_REFUSED, ERR_CONFIG_HOST_PORT */
  async open(listen: string): Promise<void> {
    const bound = await listenOn(this.#server, listen, `connection ${this.connection}`);
    this.#listen = formatHostPort(bound);
  }

  /** Accepts no more; sockets accepted before are not touched. */
  close(): void {
    if (this.#server.listening) this.#server.close();
  }
}
