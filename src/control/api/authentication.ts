import type { RequestHandler } from 'express';
import type { AuthFailures } from '../../audit/index.ts';
import { parseManagementToken, type Role } from '../../identity/index.ts';
import { Buckets, type Clock, canonicalAddress } from '../../runtime/index.ts';
import type { ControlContext } from '../context.ts';
import { authenticateToken } from '../token-store.ts';
import { Problem } from './problem.ts';

/** Longest credential looked at, characters. */
const MAX_AUTHORIZATION_LENGTH = 512;
/** Failures of one address with one claimed token before it gets 429: burst, and refill. As at the relay's own port. */
export const FAILURE_BURST = 10;
const FAILURES_PER_SECOND = 0.2;
/** Failures of one address with whatever it claims: a new id for each guess is no way around. */
export const ADDRESS_FAILURE_BURST = 50;
const ADDRESS_FAILURES_PER_SECOND = 1;
const MAX_FAILURE_BUCKETS = 65_536;

/** Who asks. */
export interface Caller {
  readonly id: string;
  readonly role: Role;
}

export interface AuthenticationOptions {
  readonly context: ControlContext;
  readonly clock: Clock;
  readonly failures: AuthFailures;
  /** Method and path of the only operation that a one-time code may ask for. */
  readonly exchange: { readonly method: string; readonly path: string };
}

/** Counts failures; what is verified never comes here, so no valid token is ever throttled. */
class FailureLimit {
  readonly #ofToken: Buckets;
  readonly #ofAddress: Buckets;

  constructor(clock: Clock) {
    const mostBuckets = MAX_FAILURE_BUCKETS;
    this.#ofToken = new Buckets(clock, { burst: FAILURE_BURST, perSecond: FAILURES_PER_SECOND, mostBuckets });
    this.#ofAddress = new Buckets(clock, {
      burst: ADDRESS_FAILURE_BURST,
      perSecond: ADDRESS_FAILURES_PER_SECOND,
      mostBuckets,
    });
  }

  /** Counts one; seconds to wait when there were too many. */
  count(address: string | undefined, claimed: string | undefined): number | undefined {
    const mayToken = this.#ofToken.take(JSON.stringify([address, claimed]));
    const mayAddress = this.#ofAddress.take(address ?? '');
    if (!mayToken) return this.#ofToken.retryAfterS;
    return mayAddress ? undefined : this.#ofAddress.retryAfterS;
  }
}

/** Admits management tokens; failures are recorded as `auth.failed` and, when there are many, answered with 429. */
export const authenticate = (options: AuthenticationOptions): RequestHandler => {
  const { context, failures, exchange } = options;
  const limit = new FailureLimit(options.clock);
  return async (request, response, next) => {
    const header = request.headers.authorization ?? '';
    const text = /^Bearer +([^ ]+) *$/i.exec(header.slice(0, MAX_AUTHORIZATION_LENGTH))?.[1];
    const caller = text === undefined ? undefined : await authenticateToken(context, text);
    if (caller === undefined) {
      const address = canonicalAddress(request.socket.remoteAddress ?? '');
      const claimedTokenId = text === undefined ? undefined : parseManagementToken(text)?.id;
      const code = text === undefined ? 'token_missing' : 'token_invalid';
      const detail =
        text === undefined ? 'a management token is needed' : 'the management token is not valid';
      failures.add({ code, claimedTokenId, address, detail });
      const waitS = limit.count(address, claimedTokenId);
      if (waitS !== undefined)
        throw new Problem(429, 'too_many_failures', 'too many failed authentications', undefined, waitS);
      response.setHeader('WWW-Authenticate', 'Bearer realm="sallyport"');
      throw new Problem(401, code, detail);
    }
    if (caller.oneTime && !(request.method === exchange.method && request.path === exchange.path))
      throw new Problem(
        403,
        'code_not_exchanged',
        'a one-time code is good for its exchange into a token only',
      );
    const { id, role } = caller;
    response.locals['caller'] = { id, role } satisfies Caller;
    next();
  };
};
