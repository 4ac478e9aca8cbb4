import { AL32UTF8 } from './negotiation.ts';
import type { TtcReader, TtcWriter } from './ttc.ts';

// Statements that the scripted database knows, and the messages that they are asked and answered with.

const ROW_HEADER = 6;
const ROW = 7;
export const PARAMETERS = 8;
const DESCRIPTION = 16;

const VARCHAR2 = 1;
/** The character set is the database's. */
const FORM_IMPLICIT = 1;

export interface Table {
  readonly column: string;
  /** Bytes of a value at most. */
  readonly width: number;
  readonly rows: readonly string[];
}

const TABLES: Readonly<Record<string, Table>> = {
  'select name from orders': { column: 'NAME', width: 40, rows: ['first', 'zweite ä'] },
  'select text from documents': {
    column: 'TEXT',
    width: 200,
    rows: Array.from({ length: 20_000 }, (_, n) => String(n).padStart(200, '.')),
  },
};

/** What a statement finds, one column of text; undefined for a statement that is not known. */
export const tableOf = (statement: string, session: number): Table | undefined =>
  statement === 'select sid from session'
    ? { column: 'SID', width: 10, rows: [String(session)] }
    : TABLES[statement];

/** An execution as asked for. */
export interface Execution {
  /** 0 for a statement that has none yet. */
  readonly cursor: number;
  readonly statement: string;
  /** Rows that may come with the answer; 0 when none are asked for. */
  readonly rows: number;
}

const OPTION_FETCH = 0x40;

export const readExecution = (asked: TtcReader): Execution => {
  const options = asked.number();
  const cursor = asked.number();
  asked.byte();
  const bytes = asked.number();
  asked.byte();
  asked.number();
  asked.raw(2);
  asked.number();
  const rows = asked.number();
  asked.number();
  asked.byte();
  if (asked.number() !== 0) throw new Error('values to bind, which the scripted database does not know');
  asked.raw(6);
  asked.number();
  asked.number();
  asked.raw(3);
  asked.number();
  asked.byte();
  asked.number();
  asked.number();
  asked.byte();
  asked.number();
  asked.byte();
  const statement = asked.raw(bytes).toString('utf8');
  return { cursor, statement, rows: (options & OPTION_FETCH) === 0 ? 0 : rows };
};

export const writeDescription = (answer: TtcWriter, { column, width }: Table): void => {
  answer.bytes(DESCRIPTION, 0).number(width).number(1).bytes(0);
  answer.bytes(VARCHAR2, 0, 0, 0).number(width).number(0).number(0).number(0).number(0);
  answer.number(AL32UTF8).bytes(FORM_IMPLICIT).number(width);
  answer.bytes(1, Buffer.byteLength(column)).optionalText(column).optionalText('').optionalText('');
  answer.number(1).number(0);
  answer.number(0).number(0).number(0).number(0).number(0).number(0);
};

/** Numbers that an execution's answer begins with: all are of no interest but the third, which is the cursor. */
export const writeCursor = (answer: TtcWriter, cursor: number): void => {
  answer.bytes(PARAMETERS).number(6).number(0).number(0).number(cursor).number(0).number(0).number(0);
  answer.number(0).number(0).number(0);
};

export const writeRows = (answer: TtcWriter, rows: readonly string[]): void => {
  if (rows.length === 0) return;
  answer.bytes(ROW_HEADER, 0).number(1).number(0).number(rows.length).number(0).number(0).number(0);
  for (const row of rows) answer.bytes(ROW).text(row);
};
