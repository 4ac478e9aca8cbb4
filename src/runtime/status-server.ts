import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { isIP, type Server } from 'node:net';
import type { Registry } from 'prom-client';
import type { Clock } from './clock.ts';
import { AppError, foreignCodeOf, messageOf } from './errors.ts';
import { formatHostPort, parseHostPort } from './host-port.ts';

/** Whether a stream would work now, and if not, why. */
export interface Readiness {
  readonly ready: boolean;
  /** One plain sentence each; empty when ready. */
  readonly reasons: readonly string[];
}

export interface StatusServerOptions {
  /** `HOST:PORT`; port 0 takes a free one. */
  readonly listen: string;
  readonly registry: Registry;
  readonly ready: () => Readiness | Promise<Readiness>;
  /** What `/status` shows; must be JSON and hold no secret. */
  readonly status: () => unknown;
  readonly clock: Clock;
}

export interface StatusServer {
  /** `http://HOST:PORT`, with the port that was bound. */
  readonly url: string;
  close(): Promise<void>;
}

/** A status request is a few header lines; nobody needs longer to send them. */
const HEADERS_TIMEOUT_MS = 5_000;
const MAX_CONNECTIONS = 64;
/** Connections the kernel may hold for a listener before they are accepted; it caps this at its own limit. */
const LISTEN_BACKLOG = 4_096;

/**
 * Binds a server, saying plainly what is wrong with the address.
 * @throws AppError ERR_LISTEN_REFUSED
 */
export const listenOn = (
  server: Server,
  listen: string,
  what: string,
): Promise<{ host: string; port: number }> => {
  const { host, port } = parseHostPort(listen);
  return new Promise((resolve, reject) => {
    const refuse = (error: Error): void => {
      const code = foreignCodeOf(error);
      const why =
        code === 'EADDRINUSE'
          ? 'another process listens there'
          : code === 'EACCES'
            ? 'this user may not bind that port'
            : code === 'EADDRNOTAVAIL'
              ? 'this machine has no such address'
              : messageOf(error);
      reject(
        new AppError('ERR_LISTEN_REFUSED', `${what} cannot listen on ${listen}: ${why}`, { cause: error }),
      );
    };
    server.once('error', refuse);
    server.listen({ host, port, backlog: LISTEN_BACKLOG }, () => {
      server.removeListener('error', refuse);
      const address = server.address();
      if (typeof address !== 'object' || address === null) {
        reject(new AppError('ERR_LISTEN_REFUSED', `${what} has no address after listening on ${listen}`));
        return;
      }
      resolve({ host, port: address.port });
    });
  });
};

/** A page in a browser may point any name at loopback; it cannot make the browser send another Host. */
const isOwnHost = (header: string | undefined, host: string): boolean => {
  const name = (header ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return name === 'localhost' || name === host || isIP(name) !== 0;
};

const answer = (response: ServerResponse, status: number, type: string, body: string): void => {
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
  response.end(body);
};

const json = (response: ServerResponse, status: number, value: unknown): void =>
  answer(response, status, 'application/json', `${JSON.stringify(value)}\n`);

/**
 * Serves `/healthz` (the process runs), `/readyz` (would a stream work now), `/metrics` (Prometheus) and
 * `/status` (JSON) to whoever reaches the listener; meant for loopback.
 * @throws AppError ERR_LISTEN_REFUSED, ERR_CONFIG_HOST_PORT
 */
export const startStatusServer = async (options: StatusServerOptions): Promise<StatusServer> => {
  const { registry, clock } = options;
  const { host } = parseHostPort(options.listen);
  const startedMs = clock.monotonicMs();

  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      answer(response, 405, 'text/plain', 'only GET\n');
      return;
    }
    if (!isOwnHost(request.headers.host, host)) {
      answer(response, 421, 'text/plain', 'not the host of this listener\n');
      return;
    }
    switch ((request.url ?? '/').split('?')[0]) {
      case '/healthz':
        json(response, 200, {
          ok: true,
          uptime_seconds: Math.round((clock.monotonicMs() - startedMs) / 1000),
        });
        return;
      case '/readyz': {
        const readiness = await options.ready();
        json(response, readiness.ready ? 200 : 503, readiness);
        return;
      }
      case '/metrics':
        answer(response, 200, registry.contentType, await registry.metrics());
        return;
      case '/status':
        json(response, 200, await options.status());
        return;
      default:
        answer(response, 404, 'text/plain', '/healthz /readyz /metrics /status\n');
    }
  };

  const server = createServer({ headersTimeout: HEADERS_TIMEOUT_MS }, (request, response) => {
    serve(request, response).catch((error: unknown) => {
      if (response.headersSent) response.destroy();
      else json(response, 500, { error: messageOf(error) });
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  const bound = await listenOn(server, options.listen, 'the status listener');
  return {
    url: `http://${formatHostPort(bound)}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
};
