import type { ChangedDecision, ReplayAnswer, ReplayChange } from './recorded.ts';

/** Groups of one report; what does not fit is counted. */
const MAX_GROUPS = 10_000;
/** Event ids that a group names. */
const EXAMPLES = 3;

/** Changed decisions that differ in nothing that a reviewer would look at. */
export interface ReplayGroup {
  readonly change: ReplayChange;
  readonly action: 'publish' | 'stream';
  readonly connection: string;
  readonly principal: string;
  readonly target: string;
  readonly was: ReplayAnswer;
  readonly now: ReplayAnswer | null;
  readonly detail: string | null;
  decisions: number;
  first_at: string;
  last_at: string;
  /** The first few events. */
  readonly examples: string[];
}

const ORDER: Readonly<Record<ReplayChange, number>> = {
  error: 0,
  newly_denied: 1,
  newly_allowed: 2,
  rule: 3,
  reasons: 4,
};

/** Gathers changed decisions by what changed, for whom and to what. */
export class ReplayGroups {
  /** Decisions that belong to no group because there were too many groups. */
  ungrouped = 0;
  readonly #groups = new Map<string, ReplayGroup>();

  add(changed: ChangedDecision): void {
    const { change, action, connection, principal, target, was, now, detail } = changed;
    const key = JSON.stringify([change, action, connection, principal, target, was, now, detail]);
    const group = this.#groups.get(key);
    if (group !== undefined) {
      group.decisions += changed.count;
      if (changed.at < group.first_at) group.first_at = changed.at;
      if (changed.at > group.last_at) group.last_at = changed.at;
      if (group.examples.length < EXAMPLES) group.examples.push(changed.eventId);
      return;
    }
    if (this.#groups.size >= MAX_GROUPS) {
      this.ungrouped += changed.count;
      return;
    }
    this.#groups.set(key, {
      ...{ change, action, connection, principal, target, was },
      now: now ?? null,
      detail: detail ?? null,
      decisions: changed.count,
      first_at: changed.at,
      last_at: changed.at,
      examples: [changed.eventId],
    });
  }

  /** What cuts traffic first, then what opens it; the most frequent first. */
  all(): ReplayGroup[] {
    return [...this.#groups.values()].sort(
      (left, right) => ORDER[left.change] - ORDER[right.change] || right.decisions - left.decisions,
    );
  }
}
