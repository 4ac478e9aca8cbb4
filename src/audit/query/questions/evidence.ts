import { from, IN_SPAN, type NamedQuery, span, to } from '../named-query.ts';

/** What was changed by whom, and whether the record itself is whole. */
export const EVIDENCE_QUESTIONS: readonly NamedQuery[] = [
  {
    name: 'reconciliation',
    question: 'What did relay and agent see differently?',
    parameters: [from('7d'), to],
    sql: `${span(1, 2)}
select closed_at, outcome, link_id, connection, principal, relay, agent, relay_reason, agent_reason,
  relay_bytes_up, agent_bytes_up, relay_bytes_down, agent_bytes_down, site
from audit.reconciliation
where closed_at >= $1::timestamptz and closed_at < $2::timestamptz
  and ${IN_SPAN}
  and outcome <> 'agrees'
order by outcome not in ('mismatch', 'other_side_missing'), closed_at, link_id`,
  },
  {
    name: 'gaps',
    question: 'When was the trail late, dropped, broken, silent or unsealed?',
    parameters: [],
    sql: `select h.origin, h.chain_id, h.state, h.last_recorded_at, h.lag_seconds, h.silent_seconds, h.dropped, h.fork_alarms,
  coalesce(b.breaks, 0) as breaks, b.reasons as break_reasons, h.default_partition_rows, h.site
from audit.health as h
left join (
  select chain_id, count(*) as breaks, array_agg(distinct details #>> '{data,reason}') as reasons
  from audit.timeline
  where type in ('audit.gap', 'audit.chain_break')
  group by chain_id
) as b on b.chain_id = h.chain_id
order by h.last_recorded_at desc, h.origin`,
  },
  {
    name: 'retained',
    question: 'What did retention remove, and under whose signature?',
    parameters: [from('-infinity'), to],
    sql: `select retained_at, before, partitions, signer, retention_id, recorded_as_at, origin, event_id
from audit.retained
where retained_at >= $1::timestamptz and retained_at < $2::timestamptz
order by retained_at, retention_id`,
  },
  {
    name: 'target-changes',
    question: 'Which connections, targets and managed settings changed?',
    parameters: [from('-infinity'), to],
    sql: `${span(1, 2)}
select occurred_at, type, connection, agent, actor, before, after, reason, site
from audit.admin_changes
where type in ('connection.created', 'connection.changed', 'connection.deleted', 'managed.changed', 'managed.refused')
  and occurred_at >= $1::timestamptz and occurred_at < $2::timestamptz
  and ${IN_SPAN}
order by occurred_at, chain_id, seq`,
  },
];
