import type { Clock } from '../../runtime/index.ts';
import type { NamedQuery } from './named-query.ts';
import { boundValues, type GivenValues } from './query-values.ts';
import type { AuditReader, QueryResult } from './reader.ts';

/**
 * Answers a named question.
 * @throws AppError ERR_AUDIT_QUERY_UNKNOWN for an unknown, missing or malformed parameter, ERR_AUDIT_QUERY_FAILED
 */
export const runNamedQuery = async (
  reader: AuditReader,
  query: NamedQuery,
  given: GivenValues,
  clock: Clock,
): Promise<QueryResult> => reader.query(query.sql, boundValues(query, given, clock));
