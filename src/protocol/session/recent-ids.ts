import { RECENT_IDS } from './constants.ts';
import type { RecentIdSet } from './types.ts';

/** The last ids seen, oldest forgotten first; an agent shares one over its links. */
export class RecentIds implements RecentIdSet {
  readonly #limit: number;
  readonly #ids = new Set<string>();

  constructor(limit: number = RECENT_IDS) {
    this.#limit = limit;
  }

  /** False when the id is among the last `limit`. */
  add(id: string): boolean {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > this.#limit) {
      for (const oldest of this.#ids) {
        this.#ids.delete(oldest);
        break;
      }
    }
    return true;
  }
}
