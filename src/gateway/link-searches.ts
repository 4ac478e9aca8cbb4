import { type Found, type LinkFailure, LinkSearch, type SearchDeps } from './link-search.ts';

/** To which agents a link is wanted. */
export interface LinkWish {
  /** Agent instances that will not do. */
  readonly exclude: readonly string[];
  /** The one agent instance that will. */
  readonly want?: string;
}

/** What a search asks of its surroundings, for one wish. */
export type SearchDepsFor = (wish: LinkWish) => SearchDeps;

const keyOf = ({ exclude, want }: LinkWish): string => JSON.stringify([[...exclude].sort(), want ?? null]);

/** The searches under way for one pool: who wishes the same shares one, who wishes something else gets its own. */
export class LinkSearches {
  readonly #depsFor: SearchDepsFor;
  readonly #running = new Map<string, { readonly search: LinkSearch; readonly found: Promise<Found> }>();
  #stopped: LinkFailure | undefined;

  constructor(depsFor: SearchDepsFor) {
    this.#depsFor = depsFor;
  }

  /** Never rejects: what goes wrong is a failure. */
  find(wish: LinkWish): Promise<Found> {
    if (this.#stopped !== undefined) return Promise.resolve({ failure: this.#stopped });
    const key = keyOf(wish);
    const there = this.#running.get(key);
    // One that is over has a link for those who asked before; who asks because of that link wants another.
    if (there?.search.isOver === false) return there.found;
    const search = new LinkSearch(this.#depsFor(wish));
    const found = search.start().finally(() => {
      if (this.#running.get(key)?.search === search) this.#running.delete(key);
    });
    this.#running.set(key, { search, found });
    return found;
  }

  /** There is another node to ask. */
  nudge(): void {
    for (const { search } of [...this.#running.values()]) search.nudge();
  }

  /** Ends every search; none starts any more. */
  stop(failure: LinkFailure): void {
    this.#stopped ??= failure;
    for (const { search } of [...this.#running.values()]) search.stop(failure);
  }
}
