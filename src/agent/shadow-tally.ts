/** What became of decisions that a shadow bundle was asked about as well. */
export interface ShadowCounts {
  readonly evaluated: number;
  readonly same: number;
  /** Allowed by both, by another rule, to other addresses or under other limits. */
  readonly otherwise: number;
  readonly would_deny: number;
  readonly would_allow: number;
  /** The shadow bundle gave no answer. */
  readonly errors: number;
  /** Not evaluated: there was no room in the queue. */
  readonly dropped: number;
  /** Differences that are in the counts only: there were too many different ones to write each. */
  readonly unwritten: number;
}

export type ShadowCount = keyof ShadowCounts;

/** What becomes of a decision; each is exactly one of these. */
export type ShadowResult = Exclude<ShadowCount, 'evaluated' | 'unwritten'>;

const NONE: ShadowCounts = {
  evaluated: 0,
  same: 0,
  otherwise: 0,
  would_deny: 0,
  would_allow: 0,
  errors: 0,
  dropped: 0,
  unwritten: 0,
};

/** Counts since it began, and since they were last taken. */
export class ShadowTally {
  readonly #total: Record<ShadowCount, number> = { ...NONE };
  #taken: ShadowCounts = NONE;

  add(name: ShadowCount): void {
    this.#total[name] += 1;
  }

  total(): ShadowCounts {
    return { ...this.#total };
  }

  /** What came since the last call; undefined when nothing did. */
  take(): ShadowCounts | undefined {
    const total = this.total();
    const names = Object.keys(total) as ShadowCount[];
    const since = Object.fromEntries(names.map((name) => [name, total[name] - this.#taken[name]]));
    this.#taken = total;
    return names.some((name) => since[name] !== 0) ? (since as unknown as ShadowCounts) : undefined;
  }
}
