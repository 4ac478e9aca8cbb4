import { auditError } from '../errors.ts';
import type { AuditReader, Row } from './reader.ts';
import { isUuid } from './uuid.ts';

/** Everything recorded of one stream, both sides of its link included. */
export interface StreamStory {
  readonly stream_id: string;
  /** The row of `audit.streams` per attempt that was allowed. */
  readonly streams: readonly Row[];
  /** The decisions, denied ones too, with what they were made from. */
  readonly decisions: readonly Row[];
  /** Events of the stream and of the links that carried it, in order. */
  readonly events: readonly Row[];
}

/** @throws AppError ERR_AUDIT_STREAM_UNKNOWN, ERR_AUDIT_QUERY_FAILED */
export const showStream = async (reader: AuditReader, streamId: string): Promise<StreamStory> => {
  const unknown = auditError('ERR_AUDIT_STREAM_UNKNOWN', `no stream ${streamId} in this database`);
  if (!isUuid(streamId)) throw unknown;
  const decisions = await reader.query(
    `select occurred_at, kind, action, decided_by, policy_rule, policy_rules, reasons, close_reason, connection,
       principal, auth_rule, key_id, key_slot, proved_by, source_addr, client_addr, client_port, target_host,
       target_addr, target_port, agent, gateway, relay, attempt, link_id, bundle_sequence, bundle_revision,
       bundle_sha256, eval_us, obligations, candidates, input, event_id, chain_id, seq, site, recheck
     from audit.decisions where stream_id = $1::uuid order by occurred_at, seq`,
    [streamId],
  );
  const streams = await reader.query(
    'select * from audit.streams where stream_id = $1::uuid order by opened_at',
    [streamId],
  );
  const events = await reader.query(
    `select t.occurred_at, t.origin, t.type, t.action, t.summary, t.details -> 'data' as data, t.event_id, t.chain_id,
       t.seq, t.site
     from audit.timeline as t
     where t.stream_id = $1::uuid
     union all
     select t.occurred_at, t.origin, t.type, t.action, t.summary, t.details -> 'data' as data, t.event_id, t.chain_id,
       t.seq, t.site
     from audit.timeline as t
     where t.stream_id is null and t.type in ('link.opened', 'link.closed', 'link.refused') and t.link_id in (
       select d.link_id from audit.decisions as d
       where d.stream_id = $1::uuid and d.link_id is not null and d.site is not distinct from t.site)
     order by occurred_at, chain_id, seq`,
    [streamId],
  );
  if (events.rows.length === 0) throw unknown;
  return {
    stream_id: streamId,
    streams: streams.rows,
    decisions: decisions.rows,
    events: events.rows,
  };
};
