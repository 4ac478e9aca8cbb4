import type { Subject } from '../audit/index.ts';
import type { Decision, PolicyInputBase } from '../policy/index.ts';
import type { IncomingOpen, OpenMeta } from '../protocol/index.ts';
import type { CloseReason, WheelEntry } from '../runtime/index.ts';
import type { Dial } from './dialler.ts';
import type { LiveStream } from './live-streams.ts';
import type { Slot, Usage } from './slots.ts';
import type { StreamLink } from './stream-link.ts';

/** One OPEN on its way to ACCEPT or REFUSE. */
export interface Opening {
  readonly incoming: IncomingOpen;
  readonly link: StreamLink;
  readonly slot: Slot;
  readonly startedMs: number;
  readonly target: { readonly host: string; readonly port: number };
  readonly subject: Subject;
  timer: WheelEntry | undefined;
  /** Set once; nothing is refused, accepted or dialled afterwards. */
  end: { readonly reason: CloseReason; readonly detail: string | undefined } | undefined;
  /** The allow that is on disk: from then on the end is recorded as `stream.close`. */
  allowedBy: string | undefined;
  dial: Dial | undefined;
  dialStartedMs: number | undefined;
  live: LiveStream | undefined;
  /** Why this side cut it, in words. */
  cutDetail: string | undefined;
}

type Claimed = OpenMeta['claimed'];

const hasClaim = (claimed: Claimed): boolean =>
  claimed.address !== undefined || claimed.port !== undefined || claimed.label !== undefined;

/** The policy input of one stream; everything but stream, usage, time and claims is shared with its link. */
export const streamInput = (
  opening: Opening,
  addresses: readonly string[],
  usage: Usage,
  now: Pick<PolicyInputBase, 'time' | 'managed'>,
): PolicyInputBase => {
  const { meta } = opening.incoming;
  const { link, target } = opening;
  return {
    v: 1,
    action: 'stream',
    ...link.input,
    target: { host: target.host, port: target.port, addresses },
    source: hasClaim(meta.claimed) ? { ...link.source, claimed: meta.claimed } : link.source,
    stream: {
      id: meta.id,
      kind: meta.kind,
      attempt: meta.attempt,
      ...(meta.parent === undefined ? {} : { parent: meta.parent }),
    },
    usage,
    managed: now.managed,
    time: now.time,
  };
};

/** The ids that every event of this stream carries. */
export const streamSubject = (
  incoming: IncomingOpen,
  link: StreamLink,
  target: { readonly host: string; readonly port: number },
): Subject => {
  const { meta } = incoming;
  return {
    ...link.subject,
    stream_id: meta.id,
    stream_no: incoming.number,
    stream_kind: meta.kind,
    attempt: meta.attempt,
    target_host: target.host,
    target_port: target.port,
    ...(meta.claimed.address === undefined ? {} : { client_addr: meta.claimed.address }),
    ...(meta.claimed.port === undefined ? {} : { client_port: meta.claimed.port }),
  };
};

/** A decision with the one obligation that is about other streams applied: it turns an allow into a deny. */
export const limited = (decision: Decision, usage: Usage): Decision => {
  const most = decision.obligations.max_streams_per_principal;
  if (!decision.allow || most === undefined || usage.principal.streams < most) return decision;
  return {
    ...decision,
    allow: false,
    decided_by: 'limit',
    reason: 'limit_denied',
    reasons: [
      ...decision.reasons,
      { code: 'max_streams_per_principal', args: { limit: most, open: usage.principal.streams } },
    ],
    allowed_addresses: [],
  };
};
