import type { Subject } from '../audit/index.ts';
import type { Decision, PolicyInputBase } from '../policy/index.ts';

/** A decision that was made and is in force, for those who only look at it. */
export interface Decided {
  readonly base: PolicyInputBase;
  readonly decision: Decision;
  /** Event id of the decision; undefined where it was counted into another event, or could not be recorded. */
  readonly decisionId: string | undefined;
  readonly subject: Subject;
}
