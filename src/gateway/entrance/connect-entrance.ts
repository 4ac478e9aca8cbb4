import { createServer, type IncomingMessage, type Server } from 'node:http';
import { Socket } from 'node:net';
import { foreignCodeOf } from '../../runtime/index.ts';
import type { RefusedStream } from '../application.ts';
import type { LinkPool } from '../link-pool.ts';
import {
  basicLogin,
  HEADER,
  MAX_AUTHORITY_LENGTH,
  MAX_HEADER_BYTES,
  type Refused,
  refusalAnswer,
  tunnelAnswer,
} from './connect-messages.ts';
import { AskingEntrance } from './asking-entrance.ts';
import type { Handshake } from './conversations.ts';
import { askedFor, type EntranceOptions, labelOf } from './entrance.ts';
import { parseTarget } from './host-name.ts';
import type { EntranceCause } from './refusals.ts';
import { answerOf } from './stream-answers.ts';

/** What an entrance itself answers, before there is a stream. */
type OwnRefusal = Omit<Refused, 'reason'> & { readonly cause: EntranceCause };

const malformed = (status: number, text: string): OwnRefusal => ({ status, cause: 'malformed', text });

const TOO_SLOW: OwnRefusal = { status: 408, cause: 'too_slow', text: 'the request was not complete in time' };
const NO_LOGIN: OwnRefusal = {
  status: 407,
  cause: 'unauthenticated',
  text: 'this entrance wants the name and password of one of its users',
  headers: { 'Proxy-Authenticate': 'Basic realm="sallyport", charset="UTF-8"' },
};
const NOT_CONNECT: OwnRefusal = {
  status: 405,
  cause: 'unsupported',
  text: 'this is a proxy for CONNECT only',
  headers: { Allow: 'CONNECT' },
};

/** The `Host` lines that a request must have (RFC 9112 §3.2). */
const hasRightHosts = ({ httpVersion, rawHeaders }: IncomingMessage): boolean => {
  const count = rawHeaders.filter((name, at) => at % 2 === 0 && name.toLowerCase() === 'host').length;
  return count === 1 || (count === 0 && httpVersion === '1.0');
};

const streamRefusal = (refused: RefusedStream): Refused => {
  const { reason, streamId, detail, decisionId } = refused;
  return {
    status: answerOf(refused).http,
    reason,
    text: detail ?? `stream ${streamId} was refused`,
    headers: {
      [HEADER.stream]: streamId,
      ...(decisionId === undefined ? {} : { [HEADER.decision]: decisionId }),
    },
  };
};

/** Applications that speak HTTP: CONNECT to what is listed (RFC 9110 §9.3.6), one request a connection. */
export class ConnectEntrance extends AskingEntrance<'http_connect'> {
  /** Reads requests; it listens nowhere itself, so that clients are looked at first. */
  readonly #http: Server;
  /** Those whose request is not there yet; one that is not in it has had its one request. */
  readonly #shaking = new WeakMap<Socket, Handshake>();

  constructor(options: EntranceOptions) {
    super('http_connect', options);
    this.#http = createServer({ maxHeaderSize: MAX_HEADER_BYTES, insecureHTTPParser: false }, (request) =>
      this.#answer(request.socket, () => NOT_CONNECT),
    );
    this.#http.on('connect', (request: IncomingMessage, socket: unknown, rest: Buffer) => {
      if (socket instanceof Socket) this.#onConnect(request, socket, rest);
    });
    this.#http.on('clientError', (error: Error, socket: unknown) => {
      if (socket instanceof Socket) this.#onClientError(error, socket);
    });
  }

  protected override onTooSlow(socket: Socket): void {
    this.#answer(socket, () => TOO_SLOW);
  }

  protected override onHandshake(socket: Socket, shaking: Handshake): void {
    this.#shaking.set(socket, shaking);
    this.#http.emit('connection', socket);
    socket.resume();
  }

  #onConnect(request: IncomingMessage, socket: Socket, rest: Buffer): void {
    // The parser has let go of the socket; what comes behind the request stays in it.
    socket.pause();
    this.#answer(socket, () => this.#tunnel(request, socket, rest));
  }

  /** Opens a stream for the request; or says why not. */
  #tunnel(request: IncomingMessage, socket: Socket, rest: Buffer): OwnRefusal | undefined {
    const { url = '', headers } = request;
    if (url.length > MAX_AUTHORITY_LENGTH)
      return malformed(
        414,
        `the target has ${url.length} characters, at most ${MAX_AUTHORITY_LENGTH} are taken`,
      );
    if (!hasRightHosts(request)) return malformed(400, 'a request has one Host header');
    const target = parseTarget(url);
    if (target === undefined)
      return malformed(400, 'the target of CONNECT is HOST:PORT, like sql01.corp.example:1433');
    const login = basicLogin(headers['proxy-authorization']);
    const user = login === undefined ? undefined : this.users?.check(login.name, login.password);
    if (this.users !== undefined && user === undefined) return NO_LOGIN;
    const asked = askedFor(target.host, target.port);
    const pool = this.options.destinations.find(target.host, target.port);
    if (pool === undefined)
      return { status: 403, cause: 'unlisted', text: `this entrance leads to no connection for ${asked}` };
    this.#open(socket, rest, user, pool);
    return undefined;
  }

  #open(socket: Socket, early: Buffer, user: string | undefined, pool: LinkPool): void {
    this.options.accept(
      {
        socket,
        early,
        label: labelOf(this.kind, user),
        isTold: true,
        accepted: (streamId) => {
          socket.write(tunnelAnswer(streamId));
        },
        refused: (refused) => this.conversations.sayAndEnd(socket, refusalAnswer(streamRefusal(refused))),
      },
      pool,
    );
  }

  #onClientError(error: Error, socket: Socket): void {
    if (!socket.writable) {
      socket.destroy();
      return;
    }
    this.#answer(socket, () =>
      foreignCodeOf(error) === 'HPE_HEADER_OVERFLOW'
        ? malformed(431, `target and headers have more than ${MAX_HEADER_BYTES} bytes`)
        : malformed(400, 'this is no HTTP request'),
    );
  }

  /** Gives a connection its one answer; whatever comes behind its request is no second one. */
  #answer(socket: Socket, serve: () => OwnRefusal | undefined): void {
    const shaking = this.#shaking.get(socket);
    if (shaking === undefined) return;
    this.#shaking.delete(socket);
    shaking.over();
    const refusal = serve();
    if (refusal === undefined) return;
    const { cause, ...answer } = refusal;
    this.listener.note(socket, cause, answer.text);
    this.conversations.sayAndEnd(socket, refusalAnswer({ ...answer, reason: cause }));
  }
}
