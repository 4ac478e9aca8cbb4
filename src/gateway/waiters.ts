import type { GatewayLink } from './gateway-link.ts';
import type { LinkFailure } from './link-search.ts';

/** What waits for a link: served with a link, or failed with the reason. */
export interface Waiter {
  serve(link: GatewayLink): void;
  fail(failure: LinkFailure): void;
}

/** Those who wait for a link of one pool, in the order in which they came. */
export class Waiters {
  readonly #waiters = new Set<Waiter>();

  get count(): number {
    return this.#waiters.size;
  }

  add(waiter: Waiter): void {
    this.#waiters.add(waiter);
  }

  remove(waiter: Waiter): void {
    this.#waiters.delete(waiter);
  }

  /** Everybody, who waits here no longer. */
  takeAll(): Waiter[] {
    const waiters = [...this.#waiters];
    this.#waiters.clear();
    return waiters;
  }

  failAll(failure: LinkFailure): void {
    for (const waiter of this.takeAll()) waiter.fail(failure);
  }

  /** Serves as many as the link takes. */
  serveWith(link: GatewayLink): void {
    for (const waiter of [...this.#waiters]) {
      if (!link.isOpenable) return;
      this.#waiters.delete(waiter);
      waiter.serve(link);
    }
  }

  /** Serves everybody with the links that `pick` names one after the other, until it names none. */
  serveFrom(pick: () => GatewayLink | undefined): void {
    while (this.#waiters.size > 0) {
      const link = pick();
      if (link === undefined) return;
      this.serveWith(link);
    }
  }
}
