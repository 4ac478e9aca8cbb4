import type { Subject } from '../audit/index.ts';
import type { PolicyInputBase, PolicySource } from '../policy/index.ts';
import type { LinkOffer } from '../protocol/index.ts';
import type { CloseReason } from '../runtime/index.ts';

/** The parts of the policy input that all streams of one link have in common; shared, never copied. */
export type LinkInput = Omit<
  PolicyInputBase,
  'v' | 'action' | 'target' | 'source' | 'stream' | 'usage' | 'time' | 'managed'
>;

/** A live data link as its streams see it. */
export interface StreamLink {
  readonly id: string;
  readonly offer: LinkOffer;
  readonly input: LinkInput;
  /** Without `claimed`, which each stream brings. */
  readonly source: PolicySource;
  /** The ids that every event of a stream on this link carries. */
  readonly subject: Subject;
  /** Whose streams count together: a connection's own auth-rule within it, others over all connections. */
  readonly slotPrincipal: string;
  /** What the connection leads to, as published now; undefined when it is not published any more. */
  target(): { readonly host: string; readonly port: number } | undefined;
  /** Why no stream may open on it now; undefined when one may. Asked in the tick that registers a stream. */
  barred(): CloseReason | undefined;
  /** Calls back with the reason to record for a stream that this link's end took down: at once when known. */
  whenEndKnown(call: (reason: CloseReason) => void): void;
}
