import type { OutageMode } from '../audit-log.ts';
import { EVENT_CLASS, OUTCOME, type SpoolItem } from './messages.ts';

/** In `enforced`, events that are no decision may use this much more than the quota. */
const RESERVE = 1.25;

/**
 * What happens to each event: below the quota all are kept. Beyond it `enforced` refuses decisions, and the rest
 * beyond its reserve; `best_effort` drops close events and never a decision. Vital events always go in.
 */
export const admit = (
  items: readonly SpoolItem[],
  o: { readonly mode: OutageMode; readonly maxSpoolBytes: number; readonly spoolBytes: number },
): number[] =>
  items.map((item) => {
    if (o.spoolBytes < o.maxSpoolBytes || item.class === EVENT_CLASS.vital) return OUTCOME.kept;
    if (o.mode === 'best_effort') return item.class === EVENT_CLASS.close ? OUTCOME.dropped : OUTCOME.kept;
    if (item.class === EVENT_CLASS.decision) return OUTCOME.refused;
    return o.spoolBytes < o.maxSpoolBytes * RESERVE ? OUTCOME.kept : OUTCOME.refused;
  });
