import { createServer as createNetServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';
import type { Server as HttpsServer } from 'node:https';
import { PROBE_PROTOCOL, type Side, SNIFF_TIMEOUT_MS, sniff } from '../protocol/index.ts';
import {
  type Clock,
  formatHostPort,
  listenOn,
  type Logger,
  resetSocket,
  TimerWheel,
} from '../runtime/index.ts';
import type { Entrance } from './entrance.ts';
import type { RawSockets } from './raw-sockets.ts';

/** A probe has this long for its handshake and answer. */
const PROBE_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 60_000;

export interface AcceptorOptions {
  /** `HOST:PORT` each. */
  readonly listen: readonly string[];
  readonly tls: { readonly cert: string; readonly key: string };
  /** What probes are answered with. */
  readonly probeAnswer: () => string;
  readonly entrance: Entrance;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The relay's own HTTPS; not listening itself. */
  readonly https: HttpsServer;
  /** Told of every connection that HTTPS gets. */
  readonly raws: RawSockets;
  /** A data carrier showed a token. `head` is what was read and is to be forwarded; the socket is paused. */
  readonly onCarrier: (side: Side, token: string, socket: Socket, head: Buffer) => void;
}

/** The public port: tells data carriers, probes and HTTPS apart by their first bytes. */
export class Acceptor {
  readonly #options: AcceptorOptions;
  readonly #servers: Server[] = [];
  readonly #probes: TlsServer;
  readonly #sockets = new Set<Socket>();
  readonly #deadlines: TimerWheel;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#deadlines = new TimerWheel(options.clock);
    this.#probes = createTlsServer(
      { ...options.tls, minVersion: 'TLSv1.2', ALPNProtocols: [PROBE_PROTOCOL] },
      (socket) => {
        socket.on('error', () => socket.destroy());
        socket.end(options.probeAnswer());
      },
    );
    this.#probes.on('tlsClientError', (_error, socket) => socket.destroy());
  }

  /**
   * Binds every address; what was bound before a failure is closed again.
   *
   * @returns `HOST:PORT` of each, with the port that was taken
   * @throws AppError ERR_LISTEN_REFUSED
   */
  async listen(): Promise<string[]> {
    const bound: string[] = [];
    try {
      for (const address of this.#options.listen) {
        const server = createNetServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
          this.#accept(socket),
        );
        const { host, port } = await listenOn(server, address, 'relay');
        this.#servers.push(server);
        server.on('error', (error) =>
          this.#options.logger.error({ detail: error.message }, 'listener failed'),
        );
        bound.push(formatHostPort({ host, port }));
      }
    } catch (thrown) {
      await this.close();
      throw thrown;
    }
    return bound;
  }

  /** Shows another certificate to probes. */
  useCertificate(tls: { readonly cert: string; readonly key: string }): void {
    this.#probes.setSecureContext({ ...tls, minVersion: 'TLSv1.2' });
  }

  /** Accepts nothing from now on; what was accepted goes on. */
  stop(): void {
    for (const server of this.#servers) server.close();
  }

  /** Ends everything that was accepted. */
  async close(): Promise<void> {
    this.#deadlines.close();
    const closing = this.#servers
      .splice(0)
      .map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(closing);
  }

  #accept(socket: Socket): void {
    // Stays for the socket's life: whoever owns it next adds its own, and no error ends the process.
    socket.on('error', () => undefined);
    const newcomer = this.#options.entrance.admit(socket);
    if (newcomer === undefined) {
      resetSocket(socket);
      return;
    }
    this.#sockets.add(socket);
    let known = false;
    let bytes: Buffer = Buffer.alloc(0);
    const become = (): void => {
      if (known) return;
      known = true;
      deadline.cancel();
      socket.off('data', onData);
      newcomer.release();
    };
    const deadline = this.#deadlines.after(SNIFF_TIMEOUT_MS, () => {
      become();
      socket.destroy();
    });
    const onData = (chunk: Buffer): void => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
      const opening = newcomer.read(bytes);
      if (opening.kind === 'more') return;
      if (opening.kind === 'refused') {
        become();
        resetSocket(socket);
        return;
      }
      bytes = opening.bytes;
      const found = sniff(bytes);
      if (found.kind === 'more') return;
      become();
      socket.pause();
      switch (found.kind) {
        case 'gateway': {
          this.#carrier('gateway', found.token, socket, bytes.subarray(found.consumedBytes));
          return;
        }
        case 'agent': {
          this.#carrier('agent', found.token, socket, bytes);
          return;
        }
        case 'https':
          socket.unshift(bytes);
          this.#options.raws.keep(socket);
          this.#options.https.emit('connection', socket);
          return;
        case 'probe': {
          const rest = bytes.subarray(found.consumedBytes);
          if (rest.length > 0) socket.unshift(rest);
          this.#deadlines.after(PROBE_TIMEOUT_MS, () => socket.destroy());
          this.#probes.emit('connection', socket);
          return;
        }
        case 'invalid':
          this.#options.logger.debug(
            { address: newcomer.address, detail: found.detail },
            'connection refused',
          );
          resetSocket(socket);
      }
    };
    socket.on('data', onData);
    socket.once('end', () => {
      if (known) return;
      become();
      socket.destroy();
    });
    socket.once('close', () => {
      become();
      this.#sockets.delete(socket);
    });
  }

  #carrier(side: Side, token: string, socket: Socket, head: Buffer): void {
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    this.#options.onCarrier(side, token, socket, head);
  }
}
