import type { AuditReader, QueryResult } from './reader.ts';

/** The views that this login may read, a row for each column, with what the database says of it. */
const VIEW_COLUMNS = `select c.relname as view, a.attname as "column", format_type(a.atttypid, a.atttypmod) as type,
  coalesce(col_description(c.oid, a.attnum), '') as means
from pg_class as c
join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'audit'::regnamespace and c.relkind = 'v' and has_table_privilege(c.oid, 'select')
order by c.relname, a.attnum`;

/** Columns of the views, in their order. @throws AppError ERR_AUDIT_DATABASE, ERR_AUDIT_QUERY_FAILED */
export const viewColumns = (reader: AuditReader): Promise<QueryResult> => reader.query(VIEW_COLUMNS);
