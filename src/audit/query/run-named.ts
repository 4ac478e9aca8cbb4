import { auditError } from '../errors.ts';
import { NAMED_QUERIES, type NamedQuery } from './named-query.ts';
import type { AuditReader, QueryResult } from './reader.ts';

/** The named query, if there is one. */
export const findNamedQuery = (name: string): NamedQuery | undefined =>
  NAMED_QUERIES.find((query) => query.name === name);

/**
 * Answers a named question.
 * @throws AppError ERR_AUDIT_QUERY_UNKNOWN for an unknown or missing parameter, ERR_AUDIT_QUERY_FAILED
 */
export const runNamedQuery = (
  reader: AuditReader,
  query: NamedQuery,
  given: Readonly<Record<string, string>>,
): Promise<QueryResult> => {
  const names = query.parameters.map((parameter) => parameter.name);
  const unknown = Object.keys(given).find((name) => !names.includes(name));
  if (unknown !== undefined) {
    const known = names.length === 0 ? 'takes none' : `takes ${names.join(', ')}`;
    throw auditError(
      'ERR_AUDIT_QUERY_UNKNOWN',
      `query ${query.name} has no parameter ${unknown}; it ${known}`,
    );
  }
  const values = query.parameters.map((parameter) => {
    const value = given[parameter.name] ?? parameter.fallback;
    if (value === undefined) {
      throw auditError(
        'ERR_AUDIT_QUERY_UNKNOWN',
        `query ${query.name} needs --param ${parameter.name}=… (${parameter.meaning})`,
      );
    }
    return value;
  });
  return reader.query(query.sql, values);
};
