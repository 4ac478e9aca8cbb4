import type { Clock, Timer } from '../../runtime/index.ts';
import type { AttachedCredential, CredentialSource } from './login-types.ts';

/** A credential is renewed when this share of its life has passed. */
export const RENEW_AT = 0.8;
/** Pause before a refused credential is tried again: the longest pause between reconnects. */
export const RETRY_REFUSED_MS = 20_000;

interface Held {
  readonly source: CredentialSource;
  attached: AttachedCredential | undefined;
  timer: Timer | undefined;
}

/** The credentials of one login: what is attached now, and when each is due for renewal or another try. */
export class HeldCredentials {
  readonly #clock: Clock;
  readonly #held = new Map<string, Held>();
  readonly #onDue: (source: CredentialSource, attached: AttachedCredential | undefined) => void;

  constructor(
    clock: Clock,
    sources: readonly CredentialSource[],
    onDue: (source: CredentialSource, attached: AttachedCredential | undefined) => void,
  ) {
    this.#clock = clock;
    this.#onDue = onDue;
    for (const source of sources) {
      this.#held.set(source.handle, { source, attached: undefined, timer: undefined });
    }
  }

  get sources(): readonly CredentialSource[] {
    return [...this.#held.values()].map((held) => held.source);
  }

  get attached(): readonly AttachedCredential[] {
    return [...this.#held.values()].flatMap((held) => (held.attached === undefined ? [] : [held.attached]));
  }

  byHandle(handle: string): AttachedCredential | undefined {
    return this.#held.get(handle)?.attached;
  }

  /** Holds one more; false when it is held already. */
  add(source: CredentialSource): boolean {
    if (this.#held.has(source.handle)) return false;
    this.#held.set(source.handle, { source, attached: undefined, timer: undefined });
    return true;
  }

  /** Lets one go; answers what was attached of it. */
  remove(handle: string): AttachedCredential | undefined {
    const held = this.#held.get(handle);
    held?.timer?.cancel();
    this.#held.delete(handle);
    return held?.attached;
  }

  /** True the first time since the login came up, false for a renewal. */
  accept(attached: AttachedCredential): boolean {
    const held = this.#held.get(attached.handle);
    if (held === undefined) return false;
    const isNew = held.attached?.cred !== attached.cred;
    held.attached = attached;
    const lifeMs = Math.max(0, attached.expires_at_ms - this.#clock.nowMs());
    this.#schedule(held, lifeMs * RENEW_AT);
    return isNew;
  }

  /** The relay would not have it: tried again after a while, from the beginning when it was not attached. */
  refuse(handle: string): void {
    const held = this.#held.get(handle);
    if (held !== undefined) this.#schedule(held, RETRY_REFUSED_MS);
  }

  /** The relay has dropped it. */
  drop(cred: string): string | undefined {
    for (const [handle, held] of this.#held) {
      if (held.attached?.cred !== cred) continue;
      held.attached = undefined;
      this.#schedule(held, RETRY_REFUSED_MS);
      return handle;
    }
    return undefined;
  }

  /** The control link is gone: nothing is attached, nothing is due. */
  reset(): void {
    for (const held of this.#held.values()) {
      held.timer?.cancel();
      held.timer = undefined;
      held.attached = undefined;
    }
  }

  #schedule(held: Held, delayMs: number): void {
    held.timer?.cancel();
    held.timer = this.#clock.after(delayMs, () => this.#onDue(held.source, held.attached)).unref();
  }
}
