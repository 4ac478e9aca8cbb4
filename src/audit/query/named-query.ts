/** What a parameter holds. An instant is RFC 3339, a day, or so long ago: `30d`; or what Postgres calls one: `infinity`. */
export type ParameterType = 'text' | 'integer' | 'instant';

/** A parameter of a named query: what it means, and what it is when not given. */
export interface QueryParameter {
  readonly name: string;
  readonly type: ParameterType;
  readonly meaning: string;
  /** As it would be given; without one it must be given. */
  readonly fallback?: string;
}

/** A question with its answer in SQL over the views; `$1 …` are the parameters in order. */
export interface NamedQuery {
  /** Also the heading of its section in docs/audit-queries.md. */
  readonly name: string;
  readonly question: string;
  /** What the rows leave out, said with every answer. */
  readonly note?: string;
  readonly parameters: readonly QueryParameter[];
  readonly sql: string;
}

/** The first instant that is meant. */
export const from = (fallback: string): QueryParameter => ({
  name: 'from',
  type: 'instant',
  meaning: 'first instant',
  fallback,
});

/** The end of the time that is meant. */
export const to: QueryParameter = {
  name: 'to',
  type: 'instant',
  meaning: 'first instant no longer meant',
  fallback: 'infinity',
};

/** Begins a query whose time lies between the instants `$first` and `$last`. */
export const span = (first: number, last: number): string =>
  `with span as (select * from audit.recorded_between($${first}::timestamptz, $${last}::timestamptz))`;

/** Keeps a query that begins with `span` to the partitions of its time. */
export const IN_SPAN =
  'recorded_at >= (select first_recorded from span) and recorded_at <= (select last_recorded from span)';
