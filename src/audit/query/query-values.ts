import { type Clock, parseDurationMs, parseInstantMs } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import type { NamedQuery, QueryParameter } from './named-query.ts';

/** Instants that Postgres has words for. */
const INSTANT_WORDS = new Set(['now', 'today', 'yesterday', 'infinity', '-infinity']);
const MAX_INTEGER = 2_147_483_647;

/** Values by name of parameter, as a person types them. */
export type GivenValues = Readonly<Record<string, string>>;

/** What a value is to the database, once as a bound value and once as SQL that means the same whenever it is run. */
interface QueryValue {
  readonly bound: string;
  readonly sql: string;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

const instantOf = (text: string, nowMs: number): QueryValue | undefined => {
  if (INSTANT_WORDS.has(text)) return { bound: text, sql: quoted(text) };
  const agoMs = parseDurationMs(text);
  const ms = agoMs === undefined ? parseInstantMs(text) : nowMs - agoMs;
  const at = ms === undefined ? undefined : new Date(ms);
  if (at === undefined || Number.isNaN(at.getTime())) return undefined;
  const bound = at.toISOString();
  return { bound, sql: agoMs === undefined ? quoted(bound) : `(now() - ${quoted(text)}::interval)` };
};

const integerOf = (text: string): QueryValue | undefined =>
  /^\d{1,10}$/.test(text) && Number(text) <= MAX_INTEGER ? { bound: text, sql: text } : undefined;

const HINT = {
  text: 'text',
  integer: `a whole number up to ${MAX_INTEGER}`,
  instant: 'like 30d, 2h, 2026-11-01, 2026-11-01T08:00:00Z, now, infinity or -infinity',
} as const;

const valueOf = (query: NamedQuery, parameter: QueryParameter, text: string, nowMs: number): QueryValue => {
  const value =
    parameter.type === 'text'
      ? { bound: text, sql: quoted(text) }
      : parameter.type === 'integer'
        ? integerOf(text)
        : instantOf(text, nowMs);
  if (value !== undefined) return value;
  throw auditError(
    'ERR_AUDIT_QUERY_UNKNOWN',
    `${parameter.name}=${JSON.stringify(text)} of query ${query.name} is not ${HINT[parameter.type]}`,
  );
};

const valuesOf = (query: NamedQuery, given: GivenValues, clock: Clock): QueryValue[] => {
  const names = query.parameters.map((parameter) => parameter.name);
  const unknown = Object.keys(given).find((name) => !names.includes(name));
  if (unknown !== undefined) {
    const known = names.length === 0 ? 'takes none' : `takes ${names.join(', ')}`;
    throw auditError(
      'ERR_AUDIT_QUERY_UNKNOWN',
      `query ${query.name} has no parameter ${unknown}; it ${known}`,
    );
  }
  const nowMs = clock.nowMs();
  return query.parameters.map((parameter) => {
    const text = given[parameter.name] ?? parameter.fallback;
    if (text !== undefined) return valueOf(query, parameter, text, nowMs);
    throw auditError(
      'ERR_AUDIT_QUERY_UNKNOWN',
      `query ${query.name} needs ${parameter.name}=… (${parameter.meaning})`,
    );
  });
};

/**
 * Values of `$1 …`, so long ago counted from the clock's now.
 * @throws AppError ERR_AUDIT_QUERY_UNKNOWN for an unknown, missing or malformed parameter
 */
export const boundValues = (query: NamedQuery, given: GivenValues, clock: Clock): string[] =>
  valuesOf(query, given, clock).map((value) => value.bound);

/**
 * The query as SQL that stands alone, to be pasted into psql: `30d` becomes an interval before now().
 * @throws AppError ERR_AUDIT_QUERY_UNKNOWN as above
 */
export const standaloneSql = (query: NamedQuery, given: GivenValues, clock: Clock): string => {
  const values = valuesOf(query, given, clock);
  return query.sql.replaceAll(/\$(\d+)/g, (_, place: string) => values[Number(place) - 1]?.sql ?? 'null');
};
