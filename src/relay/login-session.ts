import type { Control, VerifiedCredential } from '../control/index.ts';
import { isConnectionName } from '../identity/index.ts';
import type { ControlChannel, ControlMessage, Payload, Problem } from '../protocol/index.ts';
import { Buckets, type Clock, type Logger, messageOf } from '../runtime/index.ts';
import type { ControlEndpoint } from './control-endpoint.ts';
import type { Failures } from './failures.ts';
import type { LinkBook } from './link-book.ts';
import type { HeldCredential, Login } from './login.ts';
import type { LoginBook } from './login-book.ts';

/** Credentials on one login. */
export const MAX_CREDENTIALS = 1_024;
/** Requests a second that one login may make: burst, and refill. */
const REQUEST_BURST = 1_000;
const REQUESTS_PER_SECOND = 100;

export interface LoginSessionOptions {
  readonly login: Login;
  readonly channel: ControlChannel;
  readonly control: Pick<Control, 'admission' | 'connections'>;
  readonly logins: LoginBook;
  readonly links: LinkBook;
  readonly failures: Failures;
  readonly endpoint: Pick<ControlEndpoint, 'refused'>;
  readonly closedBecause: () => Problem | undefined;
  readonly refusedNow: (credential: VerifiedCredential) => Problem | undefined;
  /** A link request was refused; for `why` and audit. */
  readonly onLinkRefused: (login: Login, connection: string, code: string, detail: string) => void;
  readonly onRenewed: (login: Login, credential: HeldCredential) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What one login says over its control link, and what it is answered. */
export class LoginSession {
  readonly #options: LoginSessionOptions;
  readonly #requests: Buckets;

  constructor(options: LoginSessionOptions) {
    this.#options = options;
    this.#requests = new Buckets(options.clock, {
      burst: REQUEST_BURST,
      perSecond: REQUESTS_PER_SECOND,
      mostBuckets: 1,
    });
  }

  /** Puts a verified credential on the login; the caller has checked it in this same tick. */
  attach(handle: string, verified: VerifiedCredential, re?: number): void {
    const { login, channel, logins, links } = this.#options;
    const held: HeldCredential = {
      cred: login.nextCredName(),
      handle,
      verified,
      endedBecause: undefined,
      expiry: undefined,
    };
    login.credentials.set(held.cred, held);
    logins.watchExpiry(login, held);
    links.rebind(login, held);
    channel.send('attached', this.#attachedBody(held), re);
    void this.describe(verified.connection);
  }

  /** Tells the login what a connection is now. */
  async describe(connection: string): Promise<void> {
    const { channel, control, logger } = this.#options;
    try {
      const record = await control.connections.get(connection);
      if (record === undefined) channel.send('connection.gone', { name: connection });
      else {
        const { name, id, target, labels } = record;
        channel.send('connection.set', {
          name,
          connection_id: id,
          target: { ...target },
          labels: { ...labels },
        });
      }
    } catch (thrown) {
      logger.warn({ connection, detail: messageOf(thrown) }, 'connection could not be read');
    }
  }

  receive(message: ControlMessage): void {
    const { login, channel, links, logins } = this.#options;
    switch (message.t) {
      case 'attach':
      case 'renew':
      case 'link.request':
      case 'publish':
        if (!this.#requests.take('all')) {
          this.#error(message.id, 429, 'too_many_requests', 'too many requests on this login');
          return;
        }
        {
          this.#request(message);
          return;
        }
      case 'unpublish':
        login.published.delete(message.body.connection);
        return;
      case 'detach': {
        const held = login.credentials.get(message.body.cred);
        if (held !== undefined) logins.drop(login, held, 'token_expired');
        return;
      }
      case 'link.failed': {
        links.failed(login, message.body);
        return;
      }
      case 'health': {
        this.#health(message.body);
        return;
      }
      case 'error':
        this.#options.logger.debug({ login_id: login.id, code: message.body.code }, 'login reports an error');
        return;
      case 'ack':
      case 'goaway':
        return;
      default:
        channel.send('error', { code: 'unsupported', detail: `not for a relay: ${message.t}` }, message.id);
    }
  }

  #request(message: Extract<ControlMessage, { t: 'attach' | 'renew' | 'link.request' | 'publish' }>): void {
    const { id } = message;
    switch (message.t) {
      case 'attach':
        void this.#guarded(id, this.#attachRequest(id, message.body));
        return;
      case 'renew':
        void this.#guarded(id, this.#renew(id, message.body));
        return;
      case 'publish': {
        this.#publish(id, message.body);
        return;
      }
      case 'link.request': {
        this.#link(id, message.body);
        return;
      }
    }
  }

  async #guarded(id: number, work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (thrown) {
      this.#options.logger.error({ detail: messageOf(thrown) }, 'credential could not be verified');
      this.#error(id, 503, 'unavailable', 'the credential could not be verified');
    }
  }

  async #attachRequest(id: number, body: Payload<'attach'>): Promise<void> {
    const { login, control, endpoint, closedBecause, refusedNow } = this.#options;
    const early = closedBecause();
    if (early !== undefined) {
      this.#refuse(id, early);
      return;
    }
    if (login.credentials.size >= MAX_CREDENTIALS) {
      this.#tooManyCredentials(id);
      return;
    }
    if (!isConnectionName(body.connection)) {
      this.#error(id, 400, 'connection_missing', 'attach names no connection');
      return;
    }
    const verified = await control.admission.verify(body.token, {
      connection: body.connection,
      claim: login.role === 'agent' ? 'Listen' : 'Send',
      ...(login.address === undefined ? {} : { source: login.address }),
    });
    if (!verified.ok) {
      this.#refuse(id, endpoint.refused(verified, login.address, body.connection, login.role));
      return;
    }
    const late = closedBecause() ?? refusedNow(verified);
    if (late !== undefined) {
      this.#refuse(id, late);
      return;
    }
    if (login.channel !== this.#options.channel) return;
    // Many may have been verified at once while the login had room for one.
    if (login.credentials.size >= MAX_CREDENTIALS) {
      this.#tooManyCredentials(id);
      return;
    }
    this.attach(body.handle, verified, id);
  }

  #tooManyCredentials(id: number): void {
    this.#error(id, 429, 'too_many_credentials', `a login holds at most ${MAX_CREDENTIALS} credentials`);
  }

  async #renew(id: number, body: Payload<'renew'>): Promise<void> {
    const { login, channel, control, logins, endpoint, closedBecause, refusedNow } = this.#options;
    const held = login.usable(body.cred);
    if (held === undefined) {
      this.#error(id, 404, 'credential_unknown', `${body.cred} is not attached`);
      return;
    }
    const early = closedBecause();
    if (early !== undefined) {
      this.#refuse(id, early);
      return;
    }
    const { connection, key_id: keyId } = held.verified;
    const verified = await control.admission.verify(body.token, {
      connection,
      claim: login.role === 'agent' ? 'Listen' : 'Send',
      renewalOfKeyId: keyId,
      ...(login.address === undefined ? {} : { source: login.address }),
    });
    if (!verified.ok) {
      this.#refuse(id, endpoint.refused(verified, login.address, connection, login.role));
      return;
    }
    const late = closedBecause() ?? refusedNow(verified);
    if (late !== undefined) {
      this.#refuse(id, late);
      return;
    }
    if (verified.key_id !== keyId || verified.connection_id !== held.verified.connection_id) {
      this.#error(id, 403, 'key_changed', 'renew must use the key of the credential');
      return;
    }
    if (login.usable(body.cred) !== held || login.channel !== channel) return;
    held.verified = verified;
    logins.watchExpiry(login, held);
    channel.send('attached', this.#attachedBody(held), id);
    this.#options.onRenewed(login, held);
  }

  #publish(id: number, body: Payload<'publish'>): void {
    const { login, channel } = this.#options;
    const credential = login.usable(body.cred);
    const verified = credential?.verified;
    if (credential === undefined || login.role !== 'agent' || verified?.connection !== body.connection) {
      this.#error(id, 403, 'not_authorized', `no credential to listen for ${body.connection}`);
      return;
    }
    if (!verified.claims.includes('Listen')) {
      this.#error(id, 403, 'claim_missing', `credential may not listen for ${body.connection}`);
      return;
    }
    login.published.set(body.connection, { credential, spki: body.spki });
    channel.send('published', { connection: body.connection }, id);
  }

  #link(id: number, body: Payload<'link.request'>): void {
    const { login, channel, links, onLinkRefused } = this.#options;
    const outcome = links.offer(login, body);
    if ('refused' in outcome) {
      const { code, detail, retry_after_ms } = outcome;
      channel.send('link.refuse', { code, detail, retry_after_ms }, id);
      if (!links.isOnlyForAnother(body, outcome)) onLinkRefused(login, body.connection, code, detail);
      return;
    }
    const { sender, listener, labels, ...rest } = outcome;
    channel.send(
      'link.offer',
      {
        ...rest,
        ...(labels === undefined ? {} : { labels: { ...labels } }),
        sender: { ...sender, claims: [...sender.claims] },
        listener: { ...listener, claims: [...listener.claims] },
      },
      id,
    );
  }

  #health(body: Payload<'health'>): void {
    const { login, failures } = this.#options;
    if (body.healthy_nodes !== undefined) login.heardHealthy(body.healthy_nodes);
    if (body.bundle_sha256 !== undefined) {
      login.bundleSha256 = body.bundle_sha256;
      login.bundleSequence = body.bundle_sequence;
    }
    if (body.streams !== undefined) login.streams = body.streams;
    const own = new Set([...login.credentials.values()].map(({ verified }) => verified.connection));
    for (const failure of body.failures ?? [])
      if (own.has(failure.connection)) failures.report(login, failure);
  }

  #attachedBody({ cred, handle, verified }: HeldCredential): Payload<'attached'> {
    const { key_id, principal, auth_rule, slot, claims, connection, connection_id, expires_at_ms } = verified;
    return {
      cred,
      handle,
      key_id,
      principal,
      auth_rule,
      slot,
      claims: [...claims],
      connection,
      connection_id,
      expires_at_ms,
    };
  }

  #refuse(id: number, { status, code, detail }: Problem): void {
    this.#error(id, status, code, detail);
  }

  #error(id: number, status: number, code: string, detail: string): void {
    this.#options.channel.send('error', { code, detail: detail.slice(0, 512), status }, id);
  }
}
