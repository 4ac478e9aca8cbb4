import type { Row } from '../../audit/index.ts';
import { AppError, EXIT } from '../../runtime/index.ts';
import { type DatabaseFlags, withReader } from '../audit/access.ts';
import type { CliErrorCode } from '../errors.ts';
import type { Output } from '../output.ts';

interface StatusFlags extends DatabaseFlags {
  readonly agent?: readonly string[];
}

/** Enough of a digest to tell bundles apart in a table. */
const DIGEST_DIGITS = 12;

const SQL = `
  select h.*, r.grants_sha256, r.signed_by, r.source, r.active_since, r.previous_sha256, r.previous_revision,
    r.previous_sequence, r.is_stored, w.withdrawn_at, w.withdrawn_detail
  from audit.policy_health as h
  left join audit.policy_rollout as r
    on (r.namespace, r.agent, r.instance) = (h.namespace, h.agent, h.instance) and r.is_current
  left join lateral (
    select t.occurred_at as withdrawn_at, t.details #>> '{data,detail}' as withdrawn_detail
    from audit.timeline as t
    where t.type = 'policy.error' and t.origin = 'agent/' || h.agent and t.occurred_at >= r.last_activated_at
      and t.details #>> '{data,code}' = 'bundle_untrusted' and t.details #>> '{origin,instance}' = h.instance
      and t.details #>> '{origin,namespace}' = h.namespace
    order by t.occurred_at desc
    limit 1
  ) as w on true
  where $1::text[] is null or h.agent = any ($1::text[])
  order by h.namespace, h.agent, h.last_recorded_at desc`;

const text = (value: unknown): string => {
  if (value === null || value === undefined) return '-';
  return typeof value === 'string' ? value : JSON.stringify(value);
};
const digest = (value: unknown): string => text(value).slice(0, DIGEST_DIGITS);

/** Whether an agent may be deciding streams now: it runs, or is out of reach of the database for some time. */
const mayDecide = ({ state }: Row): boolean => state === 'running' || state === 'silent';

/** What an agent runs, whole digests; shown are their first digits. */
const policyOf = (row: Row): string => `${text(row['bundle_sha256'])} ${text(row['grants_sha256'])}`;
const shortPolicy = (policy: string): string =>
  policy
    .split(' ')
    .filter((one) => one !== '-')
    .map(digest)
    .join('+');

/** What is not as it should be, a line each; agents that ended or are gone do not count. */
const problemsOf = (rows: readonly Row[]): string[] => {
  const problems: string[] = [];
  const counted = rows.filter(mayDecide);
  const running = new Set(counted.filter((row) => row['bundle_sha256'] !== null).map(policyOf));
  if (running.size > 1)
    problems.push(
      `agents run ${String(running.size)} different policies: ${[...running].map(shortPolicy).join(', ')}`,
    );
  for (const row of counted) {
    const name = text(row['agent']);
    if (row['bundle_sha256'] === null) problems.push(`${name} has no bundle: it denies every stream`);
    if (row['withdrawn_at'] !== null) {
      problems.push(
        `${name} has withdrawn its bundle at ${text(row['withdrawn_at'])}: ${text(row['withdrawn_detail'])}; it denies every stream`,
      );
    }
    if (row['held_at'] !== null) {
      problems.push(
        `${name} holds sequence ${text(row['held_sequence'])}, '${text(row['held_revision'])}', since ${text(row['held_at'])}: it would close ${text(row['held_detail'])}`,
      );
    }
    if (row['rejected_at'] !== null) {
      problems.push(
        `${name} refused a bundle at ${text(row['rejected_at'])}: ${text(row['rejected_reason'])} (${text(row['rejected_code'])})`,
      );
    }
  }
  return problems;
};

/** Breaker alarms, denials without a verdict, silent sources: worth a look, and no reason to exit 1. */
const notesOf = (rows: readonly Row[]): string[] =>
  rows.filter(mayDecide).flatMap((row) => {
    const counts = ['policy_errors', 'policy_timeouts', 'policy_overloads', 'without_bundle', 'alarms']
      .filter((name) => Number(row[name]) > 0)
      .map((name) => `${name.replace('_', ' ')} ${text(row[name])}`);
    const kept = row['is_stored'] === false ? ['its bundle is not in the database yet'] : [];
    const all = [...counts.map((count) => `${count} in 24 h`), ...kept];
    return all.length === 0 ? [] : [`${text(row['agent'])}: ${all.join(', ')}`];
  });

/** Rolls of every agent by the audit trail. @throws AppError ERR_CLI_USAGE, ERR_AUDIT_DATABASE, ERR_AUDIT_QUERY_FAILED */
export const statusOfAll = async (flags: StatusFlags, output: Output): Promise<void> => {
  const { rows } = await withReader(flags, (reader) => reader.query(SQL, [flags.agent ?? null]));
  const absent = (flags.agent ?? []).filter((name) => !rows.some((row) => row['agent'] === name));
  if (absent.length > 0) {
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `no agent ${absent.join(', ')} in this audit database`);
  }
  const problems = problemsOf(rows);
  output.document({ ok: problems.length === 0, problems, agents: rows });
  output.table(rows, [
    { title: 'agent', value: (row) => text(row['agent']) },
    {
      title: 'state',
      value: (row) => (mayDecide(row) && row['withdrawn_at'] !== null ? 'withdrawn' : text(row['state'])),
    },
    { title: 'sequence', value: (row) => text(row['bundle_sequence']), align: 'right' },
    { title: 'revision', value: (row) => text(row['bundle_revision']) },
    { title: 'bundle', value: (row) => digest(row['bundle_sha256']) },
    { title: 'grants', value: (row) => digest(row['grants_sha256']) },
    { title: 'since', value: (row) => text(row['active_since']) },
    { title: 'signed by', value: (row) => text(row['signed_by']) },
    {
      title: 'before',
      value: (row) =>
        row['previous_sha256'] === null
          ? '-'
          : `${text(row['previous_sequence'])} ${digest(row['previous_sha256'])}`,
    },
    {
      title: 'p99 us',
      value: (row) => (row['eval_us_p99'] === null ? '-' : Math.round(Number(row['eval_us_p99']))),
      align: 'right',
    },
  ]);
  for (const problem of problems) output.line(problem);
  for (const note of notesOf(rows)) output.note(note);
  if (rows.length === 0) output.note('no agent has written to this audit database yet');
  if (problems.length > 0) output.exitWith(EXIT.notSo);
};
