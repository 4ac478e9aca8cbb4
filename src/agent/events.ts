import type { AuditEventInput, EventData, Subject } from '../audit/index.ts';
import type { Decision } from '../policy/index.ts';
import type { AgentConfig } from './config.ts';
import type { LiveStream } from './live-streams.ts';
import { CLOSE_REASON, type CloseReason } from '../runtime/index.ts';

export interface DecisionExtras {
  /** Age of the resolver's answer when it was used. */
  readonly resolveAgeMs?: number;
  /** Of what is live already, an open stream or a published connection; no question whether it may begin. */
  readonly recheck?: true;
}

/** The `data` of a decision's event. */
export const decisionData = (
  decision: Decision,
  extras: DecisionExtras = {},
): EventData['stream.decision'] => {
  const facts = {
    allow: decision.allow,
    decided_by: decision.decided_by,
    ...(decision.reason === undefined ? {} : { reason: decision.reason }),
    input: decision.input,
    candidates: decision.candidates,
    rule: decision.rule,
    rules: decision.rules,
    reasons: decision.reasons,
    obligations: decision.obligations,
    recheck_at: decision.recheck_at,
    ...(decision.bundle === undefined ? {} : { bundle: decision.bundle }),
    ...(decision.managed_sha256 === undefined ? {} : { managed_sha256: decision.managed_sha256 }),
    eval_us: decision.eval_us,
    ...(extras.resolveAgeMs === undefined ? {} : { resolve_age_ms: extras.resolveAgeMs }),
    shadow: false,
    ...(extras.recheck === undefined ? {} : { recheck: extras.recheck }),
  };
  return facts as EventData['stream.decision'];
};

export interface StreamCloseFacts {
  readonly reason: CloseReason;
  /** The wire number where the peer sent one that this build does not know. */
  readonly reasonNumber?: number;
  readonly bytesUp: number;
  readonly bytesDown: number;
  /** From the first connect() to the connected socket; undefined when it never connected. */
  readonly dialMs: number | undefined;
  readonly durationMs: number;
  readonly decisionId: string;
}

/** The end of a stream that was allowed, whether or not a byte moved. */
export const closeEvent = (subject: Subject, facts: StreamCloseFacts): AuditEventInput => ({
  type: 'stream.close',
  subject,
  data: {
    reason: facts.reason,
    reason_number: facts.reasonNumber ?? CLOSE_REASON[facts.reason],
    bytes_up: facts.bytesUp,
    bytes_down: facts.bytesDown,
    ...(facts.dialMs === undefined ? {} : { dial_ms: Math.round(facts.dialMs) }),
    duration_ms: Math.round(facts.durationMs),
    decision_id: facts.decisionId,
  },
});

/** The evidence of a re-evaluation that ends a live stream; it goes before the cut. */
export const recheckEvent = (stream: LiveStream, decision: Decision): AuditEventInput => ({
  type: 'stream.decision',
  subject: {
    ...stream.link.subject,
    stream_id: stream.id,
    stream_no: stream.number,
    target_host: stream.base.target.host,
    target_port: stream.base.target.port,
    target_addr: stream.addresses[0],
  },
  data: decisionData(decision, { recheck: true }),
});

type PolicyKeys = Pick<AgentConfig['policy'], 'require_signed' | 'keys'>;

/** Other signatures count from now on; the ids of the keys, never the keys. */
export const keysChangedEvent = (
  subject: { readonly namespace: string; readonly agent: string },
  before: PolicyKeys,
  after: PolicyKeys,
): AuditEventInput => {
  const idsOf = ({ require_signed, keys }: PolicyKeys): object => ({
    require_signed,
    keys: keys.map(({ id, algorithm }) => `${id} (${algorithm})`),
  });
  return {
    type: 'admin.action',
    subject: { ...subject, actor: `operator of ${subject.agent}` },
    data: { action: 'policy.keys_changed', detail: { before: idsOf(before), after: idsOf(after) } },
  };
};
