import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import express, { type ErrorRequestHandler, type Express, type RequestHandler } from 'express';
import helmet from 'helmet';
import { AuthFailures, type AuditLog } from '../../audit/index.ts';
import { roleAtLeast } from '../../identity/index.ts';
import { AppError, foreignCodeOf, formatHostPort, messageOf, parseHostPort } from '../../runtime/index.ts';
import type { ControlErrorCode } from '../errors.ts';
import type { LiveState } from '../live-state.ts';
import { authenticate, type Caller } from './authentication.ts';
import { openApiDocument } from './openapi.ts';
import { Problem, problemBody, problemOf, validated } from './problem.ts';
import type { Route, RouteCall, RouteServices } from './route.ts';
import { agentRoutes } from './routes/agents.ts';
import { authRuleRoutes } from './routes/auth-rules.ts';
import { connectionRoutes } from './routes/connections.ts';
import { keyRoutes } from './routes/keys.ts';
import { liveRoutes } from './routes/live.ts';
import { revocationRoutes } from './routes/revocations.ts';
import { EXCHANGE_PATH, tokenRoutes } from './routes/tokens.ts';
import { MAX_BODY_BYTES } from './schemas.ts';

const BASE = '/api/v1';
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_CONNECTIONS = 256;
/** Longest time for a whole request to arrive. */
const REQUEST_TIMEOUT_MS = 30_000;
const HEADERS_TIMEOUT_MS = 10_000;
const RETRY_AFTER_S = 2;

/** Every operation of the management API. */
export const ROUTES: readonly Route[] = [
  ...connectionRoutes,
  ...authRuleRoutes,
  ...keyRoutes,
  ...agentRoutes,
  ...liveRoutes,
  ...revocationRoutes,
  ...tokenRoutes,
];

export interface ManagementServerOptions {
  /** `HOST:PORT`; port 0 takes a free one. */
  readonly listen: string;
  readonly live: LiveState;
  /** Where failed authentications are recorded; absent only where no relay runs yet (`init`). */
  readonly audit?: Pick<AuditLog, 'note'>;
  /** Host names that a request may name besides the listener's own address and localhost. */
  readonly allowedHosts?: readonly string[];
  /** PEM; without it the listener speaks plain HTTP and should be loopback. */
  readonly tls?: { readonly key: string; readonly cert: string };
  readonly version: string;
}

export interface ManagementServer {
  /** Base URL, without a path. */
  readonly url: string;
  close(): Promise<void>;
}

/** Host part of a Host header, lower case, brackets kept. */
const hostNameOf = (header: string): string => header.toLowerCase().replace(/:\d*$/, '');

const checkHost =
  (allowed: ReadonlySet<string>): RequestHandler =>
  (request, _response, next) => {
    // A page of a foreign site that was rebound to this address names its own host.
    if (allowed.has(hostNameOf(request.headers.host ?? ''))) next();
    else next(new Problem(421, 'host_not_allowed', 'the Host header does not name this listener'));
  };

const versionOf = (ifMatch: string | undefined): number | undefined => {
  if (ifMatch === undefined || ifMatch === '*') return undefined;
  const match = /^(?:W\/)?"(\d{1,9})"$/.exec(ifMatch);
  if (match === null) throw new Problem(400, 'invalid', 'If-Match is not an ETag of this API, such as "3"');
  return Number(match[1]);
};

const handlerOf =
  (route: Route, services: RouteServices): RequestHandler =>
  async (request, response) => {
    const caller = response.locals['caller'] as Caller;
    if (!roleAtLeast(caller.role, route.role))
      throw new Problem(
        403,
        'role_insufficient',
        `this needs the role ${route.role}, the token has ${caller.role}`,
      );
    const ifMatch = versionOf(request.headers['if-match']);
    const call: RouteCall<unknown, unknown, unknown> = {
      params: validated(route.params, { ...request.params }, 'path'),
      query: validated(route.query, { ...request.query }, 'query'),
      body: route.body && validated(route.body, (request.body as unknown) ?? {}, 'body'),
      actor: caller.id,
      ifMatch,
      services,
    };
    let answer: Awaited<ReturnType<Route['handle']>>;
    try {
      answer = await route.handle(call as RouteCall<never, never, never>);
    } catch (error) {
      if (ifMatch !== undefined && foreignCodeOf(error) === 'ERR_CONTROL_CONFLICT')
        throw new Problem(412, 'version_mismatch', messageOf(error));
      throw error;
    }
    if (route.method !== 'get') services.onChanged();
    if (answer.version !== undefined) response.setHeader('ETag', `"${answer.version}"`);
    response.status(route.status).json(answer.body);
  };

const answerProblems =
  (services: RouteServices): ErrorRequestHandler =>
  (error: unknown, request, response, next) => {
    if (response.headersSent) {
      next(error);
      return;
    }
    let problem = problemOf(error, MAX_BODY_BYTES);
    if (problem === undefined) {
      // The path's values stay out of the log; what broke is in the error.
      services.context.logger.error({ method: request.method, err: error }, 'management request failed');
      problem = new Problem(500, 'internal', 'the request failed; the log of the relay says why');
    }
    const retryAfterS = problem.retryAfterS ?? (problem.status === 503 ? RETRY_AFTER_S : undefined);
    if (retryAfterS !== undefined) response.setHeader('Retry-After', String(retryAfterS));
    response
      .status(problem.status)
      .type('application/problem+json')
      .send(JSON.stringify(problemBody(problem)));
  };

/** The management API as an express application; `allowedHosts` are lower case. */
export const managementApp = (
  services: RouteServices,
  allowedHosts: ReadonlySet<string>,
  failures: AuthFailures,
): Express => {
  const app = express();
  app.disable('x-powered-by');
  app.set('query parser', 'simple');
  app.set('etag', false);
  app.use(helmet());
  app.use((_request, response, next) => {
    response.setHeader('Cache-Control', 'no-store');
    next();
  });
  app.use(checkHost(allowedHosts));
  const { context } = services;
  const exchange = { method: 'POST', path: `${BASE}${EXCHANGE_PATH}` };
  app.use(authenticate({ context, clock: context.clock, failures, exchange }));
  app.use(express.json({ limit: MAX_BODY_BYTES, strict: true, type: () => true }));
  app.get(`${BASE}/openapi.json`, (_request, response) => {
    response.json(openApiDocument(ROUTES, services.version));
  });
  for (const route of ROUTES)
    app[route.method](`${BASE}${route.path.replace(/\{(\w+)\}/g, ':$1')}`, handlerOf(route, services));
  app.use((request) => {
    throw new Problem(
      404,
      'no_such_operation',
      `${request.method} of this path is not an operation of the API`,
    );
  });
  app.use(answerProblems(services));
  return app;
};

const listening = (server: Server, host: string, port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      const why = foreignCodeOf(error) ?? messageOf(error);
      const message = `admin listener ${formatHostPort({ host, port })} cannot be opened: ${why}`;
      reject(new AppError<ControlErrorCode>('ERR_CONTROL_LISTEN', message, { cause: error }));
    };
    server.once('error', fail);
    server.listen(port, host, () => {
      server.off('error', fail);
      resolve();
    });
  });

/** Opens the management listener. @throws AppError ERR_CONTROL_LISTEN, ERR_CONFIG_HOST_PORT */
export const createManagementServer = async (
  services: Omit<RouteServices, 'live' | 'version'>,
  options: ManagementServerOptions,
): Promise<ManagementServer> => {
  const { logger } = services.context;
  const { host, port } = parseHostPort(options.listen);
  const bracketed = host.includes(':') ? `[${host}]` : host;
  const allowed = new Set(
    ['localhost', '127.0.0.1', '[::1]', bracketed, ...(options.allowedHosts ?? [])].map((name) =>
      name.toLowerCase(),
    ),
  );
  const audit = options.audit ?? { note: () => undefined };
  const { namespace, clock } = services.context;
  const failures = new AuthFailures(audit, { namespace, relay: services.node }, clock);
  const all = { ...services, live: options.live, version: options.version };
  const app = managementApp(all, allowed, failures);
  const settings = { maxHeaderSize: MAX_HEADER_BYTES };
  const listener = app as RequestListener;
  const server: Server =
    options.tls === undefined
      ? createServer(settings, listener)
      : createTlsServer({ ...settings, ...options.tls }, listener);
  server.maxConnections = MAX_CONNECTIONS;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  try {
    await listening(server, host, port);
  } catch (error) {
    failures.close();
    throw error;
  }
  server.on('error', (error) => logger.error({ cause: messageOf(error) }, 'admin listener failed'));
  const bound = server.address() as AddressInfo;
  const scheme = options.tls === undefined ? 'http' : 'https';
  return {
    url: `${scheme}://${formatHostPort({ host, port: bound.port })}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          failures.close();
          resolve();
        });
        server.closeIdleConnections();
        // Requests in progress get a moment; keep-alive connections none.
        services.context.clock.after(1_000, () => server.closeAllConnections()).unref();
      }),
  };
};
