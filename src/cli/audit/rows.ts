import { csvCell, type QueryResult } from '../../audit/index.ts';
import { type Column, counted, type Output } from '../output.ts';

/** Longest cell of a table for people. */
const MAX_CELL = 60;

const cellOf = (value: unknown): string | null => {
  if (value === null || value === undefined) return null;
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > MAX_CELL ? `${text.slice(0, MAX_CELL - 1)}…` : text;
};

interface Showing {
  readonly csv: boolean;
  /** The parameters that were asked with, defaults included. */
  readonly asked?: string | undefined;
}

/** Shows a result: table, CSV, or with --json one document. */
export const showResult = (output: Output, result: QueryResult, { csv, asked }: Showing): void => {
  output.document(result.rows);
  if (csv) {
    output.line(result.columns.map(csvCell).join(','));
    for (const row of result.rows) output.line(result.columns.map((name) => csvCell(row[name])).join(','));
  } else {
    const columns = result.columns.map(
      (name): Column<Readonly<Record<string, unknown>>> => ({
        title: name,
        value: (row) => cellOf(row[name]),
      }),
    );
    output.table(result.rows, columns);
  }
  const count = counted(result.rows.length, 'row');
  output.note(asked === undefined || asked === '' ? count : `${count} (${asked})`);
};
