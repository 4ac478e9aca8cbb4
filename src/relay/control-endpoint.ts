import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import type { AuthFailures } from '../audit/index.ts';
import type { Admission, AdmissionRefusal, VerifiedCredential } from '../control/index.ts';
import { isConnectionName } from '../identity/index.ts';
import {
  acceptControl,
  CONNECTION_HEADER,
  CONTROL_PATH,
  CONTROL_SUBPROTOCOL,
  ControlChannel,
  type ControlMessage,
  type Payload,
  type Problem,
  refuseUpgrade,
  ROLE_HEADER,
  type Side,
} from '../protocol/index.ts';
import { Buckets, type Clock, type Logger, messageOf, type Timer } from '../runtime/index.ts';
import type { RefusedLogin } from './failures.ts';
import type { Origins } from './origin.ts';
import type { TrustedProxies } from './trusted-proxies.ts';

/** From the upgrade to `hello`. */
export const HELLO_TIMEOUT_MS = 10_000;
/** Longest Authorization header taken. */
export const MAX_TOKEN_BYTES = 4 * 1024;
/** Handshakes being verified or waiting for `hello`, of one address, and of one proxy that does not say for whom. */
export const MAX_PENDING_PER_ADDRESS = 256;
export const MAX_PENDING_PER_PROXY = 4_096;
/** Failures of one address with one claimed key before it gets 429: burst, and refill. */
const FAILURE_BURST = 10;
const FAILURES_PER_SECOND = 0.2;
const MAX_FAILURE_BUCKETS = 65_536;
/** Handshakes a second that this node takes, whoever comes: a restart is no storm. */
const HANDSHAKE_BURST = 2_000;
const HANDSHAKES_PER_SECOND = 500;

/** A verified handshake whose `hello` has come; from here on it is the caller's. */
export interface Arrival {
  readonly channel: ControlChannel;
  readonly credential: VerifiedCredential;
  readonly hello: Payload<'hello'>;
  readonly helloId: number;
  readonly role: Side;
  readonly address: string | undefined;
}

export interface ControlEndpointOptions {
  readonly admission: Admission;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly failures: AuthFailures;
  /** For `why`. */
  readonly onRefused: (refused: RefusedLogin) => void;
  readonly proxies: TrustedProxies;
  readonly origins: Origins;
  /** Why nothing is admitted now (fence, drain); asked before and after verifying, in the tick of the upgrade. */
  readonly closedBecause: () => Problem | undefined;
  /** Why this credential may not be used now; asked in the tick that uses it. */
  readonly refusedNow: (credential: VerifiedCredential) => Problem | undefined;
  /** Every message after `hello`; bound by the caller's answer to `onArrival`. */
  readonly onArrival: (arrival: Arrival) => {
    readonly onMessage: (message: ControlMessage) => void;
    readonly onClose: (detail: string) => void;
  };
}

const problem = (status: Problem['status'], code: string, detail: string, retryAfterS?: number): Problem => ({
  status,
  code,
  detail,
  retryAfterS,
});

/** The problem document of a refused credential. */
export const problemOfRefusal = (refusal: AdmissionRefusal): Problem =>
  problem(refusal.status, refusal.code, refusal.detail, refusal.status === 503 ? 1 : undefined);

const headerOf = (request: IncomingMessage, name: string): string | undefined => {
  const value = request.headers[name];
  return typeof value === 'string' ? value : undefined;
};

interface Request {
  readonly connection: string;
  readonly role: Side;
  readonly token: string;
}

/** Admits control links: HTTP checks, limits, the first credential, the upgrade, `hello`. */
export class ControlEndpoint {
  readonly #options: ControlEndpointOptions;
  readonly #server = acceptControl();
  readonly #failureBuckets: Buckets;
  readonly #handshakes: Buckets;
  readonly #pending = new Map<string, number>();

  constructor(options: ControlEndpointOptions) {
    this.#options = options;
    this.#failureBuckets = new Buckets(options.clock, {
      burst: FAILURE_BURST,
      perSecond: FAILURES_PER_SECOND,
      mostBuckets: MAX_FAILURE_BUCKETS,
    });
    this.#handshakes = new Buckets(options.clock, {
      burst: HANDSHAKE_BURST,
      perSecond: HANDSHAKES_PER_SECOND,
      mostBuckets: 1,
    });
  }

  /** Takes an HTTP upgrade request; answers it in every case. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    this.#admit(request, socket, head).catch((thrown: unknown) => {
      this.#options.logger.error({ detail: messageOf(thrown) }, 'control handshake failed');
      refuseUpgrade(socket, problem(503, 'unavailable', 'the handshake could not be completed', 1));
    });
  }

  /**
   * Counts and records a refused credential.
   *
   * @returns what to answer: the refusal itself, or 429 when this address has failed with this key too often
   */
  refused(refusal: AdmissionRefusal, address: string | undefined, connection: string, role: Side): Problem {
    const { claimed_key_name: claimedKeyName, code, detail, status } = refusal;
    if (status === 503) return problemOfRefusal(refusal);
    this.#options.failures.add({ claimedKeyName, code, address, connection, detail });
    this.#options.onRefused({ connection, role, claimedKeyName, address, code, detail });
    if (this.#failureBuckets.take(JSON.stringify([address, claimedKeyName])))
      return problemOfRefusal(refusal);
    const wait = this.#failureBuckets.retryAfterS;
    return problem(429, 'too_many_failures', 'too many failed authentications with this key', wait);
  }

  async #admit(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { admission, closedBecause, refusedNow } = this.#options;
    const parsed = this.#parse(request);
    if ('status' in parsed) {
      refuseUpgrade(socket, parsed);
      return;
    }
    const { peer, from } = this.#options.origins.of(request.socket);
    const forwardedFor = headerOf(request, 'x-forwarded-for');
    const address = from === undefined ? undefined : this.#options.proxies.sourceOf(from, forwardedFor);
    const limit = closedBecause() ?? this.#limit(address, peer);
    if (limit !== undefined) {
      refuseUpgrade(socket, limit);
      return;
    }
    const release = this.#hold(address ?? peer);
    try {
      const verified = await admission.verify(parsed.token, {
        connection: parsed.connection,
        claim: parsed.role === 'agent' ? 'Listen' : 'Send',
        ...(address === undefined ? {} : { source: address }),
      });
      if (!verified.ok) {
        refuseUpgrade(socket, this.refused(verified, address, parsed.connection, parsed.role));
        release();
        return;
      }
      // Nothing may happen between these checks and the upgrade.
      const late = closedBecause() ?? refusedNow(verified);
      const webSocket = late === undefined ? this.#server.accept(request, socket, head) : undefined;
      if (webSocket === undefined) {
        if (late !== undefined) refuseUpgrade(socket, late);
        release();
        return;
      }
      this.#greet(webSocket, verified, parsed.role, address, release);
    } catch (thrown) {
      release();
      throw thrown;
    }
  }

  #parse(request: IncomingMessage): Request | Problem {
    const path = (request.url ?? '').split('?', 1)[0];
    if (path !== CONTROL_PATH) return problem(404, 'not_found', 'nothing is served here');
    const protocols = (headerOf(request, 'sec-websocket-protocol') ?? '')
      .split(',')
      .map((text) => text.trim());
    const isWebSocket = headerOf(request, 'upgrade')?.toLowerCase() === 'websocket';
    if (!isWebSocket || !protocols.includes(CONTROL_SUBPROTOCOL)) {
      return problem(
        426,
        'upgrade_required',
        `a WebSocket of subprotocol ${CONTROL_SUBPROTOCOL} is served here`,
      );
    }
    const role = headerOf(request, ROLE_HEADER);
    if (role !== 'agent' && role !== 'gateway') {
      return problem(400, 'role_missing', `header ${ROLE_HEADER} is neither agent nor gateway`);
    }
    const connection = headerOf(request, CONNECTION_HEADER) ?? '';
    if (!isConnectionName(connection)) {
      return problem(400, 'connection_missing', `header ${CONNECTION_HEADER} names no connection`);
    }
    const token = headerOf(request, 'authorization') ?? '';
    if (token === '') return problem(401, 'token_missing', 'header authorization is missing');
    if (token.length > MAX_TOKEN_BYTES) {
      return problem(400, 'token_too_long', `header authorization is longer than ${MAX_TOKEN_BYTES} bytes`);
    }
    return { connection, role, token };
  }

  #limit(address: string | undefined, peer: string): Problem | undefined {
    if (!this.#handshakes.take('all')) {
      return problem(503, 'busy', 'too many handshakes at once', this.#handshakes.retryAfterS);
    }
    const most = address === undefined ? MAX_PENDING_PER_PROXY : MAX_PENDING_PER_ADDRESS;
    if ((this.#pending.get(address ?? peer) ?? 0) < most) return undefined;
    return problem(429, 'too_many_handshakes', `more than ${most} handshakes at once`, 1);
  }

  #hold(address: string): () => void {
    this.#pending.set(address, (this.#pending.get(address) ?? 0) + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      const left = (this.#pending.get(address) ?? 1) - 1;
      if (left === 0) this.#pending.delete(address);
      else this.#pending.set(address, left);
    };
  }

  #greet(
    webSocket: NonNullable<ReturnType<ReturnType<typeof acceptControl>['accept']>>,
    credential: VerifiedCredential,
    role: Side,
    address: string | undefined,
    release: () => void,
  ): void {
    const { clock, logger, onArrival } = this.#options;
    let bound: ReturnType<typeof onArrival> | undefined;
    const channel = new ControlChannel({
      socket: webSocket,
      clock,
      logger,
      onMessage: (message) => {
        if (bound !== undefined) {
          bound.onMessage(message);
          return;
        }
        if (message.t !== 'hello' || message.body.role !== role) {
          channel.destroy('first message is no hello of the role that was proved');
          return;
        }
        settle();
        bound = onArrival({ channel, credential, hello: message.body, helloId: message.id, role, address });
      },
      onClose: (detail) => {
        settle();
        bound?.onClose(detail);
      },
    });
    const timer: Timer = clock.after(HELLO_TIMEOUT_MS, () => channel.destroy('no hello in time'));
    const settle = (): void => {
      timer.cancel();
      release();
    };
  }
}
