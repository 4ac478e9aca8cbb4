import type { Clock, Timer } from '../runtime/index.ts';
import type { LinkParty } from './data-link.ts';
import { type HeldCredential, type Login, LOGIN_KEPT_MS } from './login.ts';

/** Logins of one node, and of one principal. */
export const MAX_LOGINS = 20_000;
export const MAX_LOGINS_PER_PRINCIPAL = 2_048;

/** What the control link of a login is closed with when the same installation logged in again. */
const REPLACED =
  'the same installation logged in again: is another process started on a copy of this state_dir?';

export interface LoginBookOptions {
  readonly clock: Clock;
  /** A credential ran out without renewal; it is off its login already. */
  readonly onExpired: (login: Login, credential: HeldCredential) => void;
  /** A login is gone for good. */
  readonly onForgotten: (login: Login, reason: string) => void;
}

/** The logins of this node, each kept for its instance a while after its control link is lost. */
export class LoginBook {
  readonly #clock: Clock;
  readonly #onExpired: LoginBookOptions['onExpired'];
  readonly #onForgotten: LoginBookOptions['onForgotten'];
  readonly #logins = new Map<string, Login>();
  readonly #kept = new Map<string, Timer>();

  constructor(options: LoginBookOptions) {
    this.#clock = options.clock;
    this.#onExpired = options.onExpired;
    this.#onForgotten = options.onForgotten;
  }

  get size(): number {
    return this.#logins.size;
  }

  all(): readonly Login[] {
    return [...this.#logins.values()];
  }

  /** Those whose control link is up. */
  connected(): readonly Login[] {
    return this.all().filter((login) => login.channel !== undefined);
  }

  add(login: Login): void {
    this.#logins.set(login.id, login);
  }

  /** How many logins hold a credential of this principal of this connection. */
  countOf(principal: string, connectionId: string): number {
    let count = 0;
    for (const login of this.#logins.values()) {
      for (const { verified } of login.credentials.values()) {
        if (verified.principal !== principal || verified.connection_id !== connectionId) continue;
        count += 1;
        break;
      }
    }
    return count;
  }

  /** Agents that serve the connection now. */
  publishers(connection: string): LinkParty[] {
    const found: LinkParty[] = [];
    for (const login of this.#logins.values()) {
      const publication = login.published.get(connection);
      if (publication === undefined || login.channel === undefined) continue;
      found.push({ login, credential: publication.credential, spki: publication.spki });
    }
    return found;
  }

  /** Its control link is lost: nothing is offered to it, and it is forgotten after `LOGIN_KEPT_MS`. */
  lost(login: Login): void {
    login.channel = undefined;
    login.published.clear();
    if (!this.#logins.has(login.id)) return;
    const timer = this.#clock.after(LOGIN_KEPT_MS, () => this.forget(login, 'lost')).unref();
    this.#kept.set(login.id, timer);
  }

  /** Gone for good; its links go on until their credentials end. */
  forget(login: Login, reason: string): void {
    this.#kept.get(login.id)?.cancel();
    this.#kept.delete(login.id);
    if (!this.#logins.delete(login.id)) return;
    const { channel } = login;
    login.channel = undefined;
    login.published.clear();
    channel?.close(reason === 'replaced' ? REPLACED : undefined);
    this.#onForgotten(login, reason);
  }

  /** Holds a credential until its expiry; also called after a renewal. */
  watchExpiry(login: Login, held: HeldCredential): void {
    held.expiry?.cancel();
    const lifeMs = Math.max(0, held.verified.expires_at_ms - this.#clock.nowMs());
    held.expiry = this.#clock
      .after(lifeMs, () => {
        this.drop(login, held, 'token_expired');
        this.#onExpired(login, held);
      })
      .unref();
  }

  /** Takes a credential off its login, with what was published on it. */
  drop(login: Login, held: HeldCredential, because: string): void {
    held.expiry?.cancel();
    held.endedBecause ??= because;
    if (!login.credentials.delete(held.cred)) return;
    login.noteEnded(held);
    for (const [connection, publication] of login.published) {
      if (publication.credential === held) login.published.delete(connection);
    }
    login.channel?.send('detach', { cred: held.cred, reason: because });
  }

  close(): void {
    for (const timer of this.#kept.values()) timer.cancel();
    this.#kept.clear();
    for (const login of this.all()) {
      for (const held of login.credentials.values()) held.expiry?.cancel();
    }
  }
}
