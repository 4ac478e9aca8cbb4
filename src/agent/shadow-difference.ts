import type { AuditEventInput } from '../audit/index.ts';
import type { Decision } from '../policy/index.ts';
import type { Decided } from './decided.ts';

type ShadowEvent = Extract<AuditEventInput, { type: 'policy.shadow' }>;
export type Difference = 'would_deny' | 'would_allow';
/** How a decision of the shadow bundle compares to the one in force. */
export type Comparison = Difference | 'same' | 'otherwise' | 'error';

/** The shadow bundle's answer to what was decided. Denials for other reasons are the same: nothing gets through. */
export const compareDecisions = (active: Decision, shadow: Decision): Comparison => {
  if (shadow.decided_by === 'engine') return 'error';
  if (active.allow !== shadow.allow) return shadow.allow ? 'would_allow' : 'would_deny';
  if (!active.allow) return 'same';
  const terms = ({ rule, allowed_addresses, obligations }: Decision): string =>
    JSON.stringify([rule, allowed_addresses, Object.entries(obligations).sort()]);
  return terms(active) === terms(shadow) ? 'same' : 'otherwise';
};

/** The event of one difference: `allow` and `bundle` are the shadow's, `active` is what was in force. */
export const differenceEvent = (
  { base, decision, decisionId, subject }: Decided,
  shadow: Decision,
  difference: Difference,
): ShadowEvent => ({
  type: 'policy.shadow',
  subject,
  data: {
    shadow: true,
    difference,
    action: base.action,
    allow: shadow.allow,
    decided_by: shadow.decided_by,
    rule: shadow.rule,
    reasons: [...shadow.reasons],
    ...(shadow.bundle === undefined ? {} : { bundle: shadow.bundle }),
    eval_us: shadow.eval_us,
    active: {
      allow: decision.allow,
      decided_by: decision.decided_by,
      rule: decision.rule,
      reasons: [...decision.reasons],
      ...(decision.bundle === undefined ? {} : { bundle: decision.bundle }),
    },
    ...(decisionId === undefined ? {} : { decision_id: decisionId }),
  },
});

/** What differences of one kind have in common. */
const kindOf = ({ base, decision }: Decided, shadow: Decision, difference: Difference): string =>
  JSON.stringify([
    difference,
    base.action,
    base.connection.name,
    base.key?.principal ?? base.listener.principal,
    base.target.host,
    base.target.port,
    decision.rule,
    shadow.rule,
    decision.bundle?.sha256,
    (shadow.allow ? decision : shadow).reasons.map(({ code }) => code),
  ]);

/** Differences of one kind are written once in this time, the rest of them as one event with their count at its end. */
export const DIFFERENCE_WINDOW_MS = 60_000;
/** Kinds of differences in one window that are written; of more than that only counts are. */
export const DIFFERENCES_WRITTEN = 256;

/** Coalesces differences, so that no shadow bundle fills the trail: at most 512 events a minute. */
export class DifferenceWindow {
  readonly #kinds = new Map<string, { held: number; newest: ShadowEvent | undefined }>();

  /** The event to write now; `counted` when it is in a later one, `unwritten` when it is in none. */
  admit(decided: Decided, shadow: Decision, difference: Difference): ShadowEvent | 'counted' | 'unwritten' {
    const kind = kindOf(decided, shadow, difference);
    const known = this.#kinds.get(kind);
    if (known === undefined) {
      if (this.#kinds.size >= DIFFERENCES_WRITTEN) return 'unwritten';
      this.#kinds.set(kind, { held: 0, newest: undefined });
      return differenceEvent(decided, shadow, difference);
    }
    known.held += 1;
    known.newest = differenceEvent(decided, shadow, difference);
    return 'counted';
  }

  /** Ends the window: what was held back, one event per kind. */
  release(): ShadowEvent[] {
    const events = [...this.#kinds.values()].flatMap(({ held, newest }) =>
      newest === undefined ? [] : [held > 1 ? { ...newest, data: { ...newest.data, count: held } } : newest],
    );
    this.#kinds.clear();
    return events;
  }
}
