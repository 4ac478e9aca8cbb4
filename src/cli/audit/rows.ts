import type { QueryResult } from '../../audit/index.ts';
import type { Column, Output } from '../output.ts';

/** Longest cell of a table for people. */
const MAX_CELL = 60;

const cellOf = (value: unknown): string | null => {
  if (value === null || value === undefined) return null;
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > MAX_CELL ? `${text.slice(0, MAX_CELL - 1)}…` : text;
};

/** CSV of RFC 4180; cells that a spreadsheet would run as a formula are quoted with an apostrophe. */
export const csvCell = (value: unknown): string => {
  if (value === null || value === undefined) return '';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const harmless = typeof value === 'string' && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
};

/** Shows a result: table, CSV, or with --json one document. */
export const showResult = (output: Output, result: QueryResult, csv: boolean): void => {
  output.document(result.rows);
  if (csv) {
    output.line(result.columns.map(csvCell).join(','));
    for (const row of result.rows) output.line(result.columns.map((name) => csvCell(row[name])).join(','));
    return;
  }
  const columns = result.columns.map(
    (name): Column<Readonly<Record<string, unknown>>> => ({ title: name, value: (row) => cellOf(row[name]) }),
  );
  output.table(result.rows, columns);
  output.note(`${result.rows.length} rows`);
};
