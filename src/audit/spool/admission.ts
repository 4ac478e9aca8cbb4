import type { OutageMode } from '../audit-log.ts';
import { EVENT_CLASS, OUTCOME, type SpoolItem } from './messages.ts';
import type { PrincipalShares } from './principal-shares.ts';

/** In `enforced`, events that are no decision may use this much more than the quota. */
const RESERVE = 1.25;
/** Of the quota; half would halve what one lone principal can use of it in an outage. */
export const DEFAULT_SHARE_FROM_PERCENT = 75;

export interface AdmissionState {
  readonly mode: OutageMode;
  readonly maxSpoolBytes: number;
  /** From here on a principal is held to its share. */
  readonly shareFromBytes: number;
  readonly spoolBytes: number;
  readonly shares: Pick<PrincipalShares, 'bytesOf' | 'shareBytes'>;
}

/** Whether principals are held to an equal part of the quota now. */
export const isContended = (o: Omit<AdmissionState, 'shares'>): boolean =>
  o.mode === 'enforced' && o.shareFromBytes < o.maxSpoolBytes && o.spoolBytes >= o.shareFromBytes;

/**
 * What happens to each event: below the quota all are kept, but where `enforced` nears it, decisions of principals that
 * hold more than an equal share of it. Beyond the quota `enforced` refuses decisions, and the rest beyond its reserve;
 * `best_effort` drops close events and never a decision. Vital events always go in.
 */
export const admit = (items: readonly SpoolItem[], o: AdmissionState): number[] => {
  const shareBytes = isContended(o) ? o.shares.shareBytes(o.maxSpoolBytes) : undefined;
  return items.map((item) => {
    if (item.class === EVENT_CLASS.vital) return OUTCOME.kept;
    if (o.spoolBytes < o.maxSpoolBytes) {
      if (shareBytes === undefined || item.class !== EVENT_CLASS.decision || item.principal === undefined)
        return OUTCOME.kept;
      return o.shares.bytesOf(item.principal) > shareBytes ? OUTCOME.overShare : OUTCOME.kept;
    }
    if (o.mode === 'best_effort') return item.class === EVENT_CLASS.close ? OUTCOME.dropped : OUTCOME.kept;
    if (item.class === EVENT_CLASS.decision) return OUTCOME.refused;
    return o.spoolBytes < o.maxSpoolBytes * RESERVE ? OUTCOME.kept : OUTCOME.refused;
  });
};
