import { foreignCodeOf, messageOf } from '../../runtime/index.ts';

const HINT =
  '; is this the audit database? if it is, `sallyport migrate --schema audit --database URL` brings its schema up to date';

/** What to do where the schema, or a part of it, is not there (invalid_schema_name, undefined_table), by SQLSTATE. */
export const NO_SCHEMA: Readonly<Record<string, string>> = { '3F000': HINT, '42P01': HINT };

/** What an error of the audit database says, with what to do when the schema is not there. */
export const refusalText = (thrown: unknown): string =>
  `${messageOf(thrown)}${NO_SCHEMA[foreignCodeOf(thrown) ?? ''] ?? ''}`;
