import { type CallEnd, writeCallEnd } from './call-end.ts';
import {
  type Execution,
  tableOf,
  type Table,
  writeCursor,
  writeDescription,
  writeRows,
} from './statements.ts';
import type { TtcWriter } from './ttc.ts';

const NO_TABLE = { code: 942, text: 'table or view does not exist' };
const NO_CURSOR = { code: 1001, text: 'invalid cursor' };
const NO_MORE = { code: 1403, text: 'no data found' };

/** The open statements of one session, by numbers from 1. */
export class Cursors {
  readonly #session: number;
  readonly #open: { readonly table: Table; sent: number }[] = [];

  constructor(session: number) {
    this.#session = session;
  }

  execute(answer: TtcWriter, { cursor, statement, rows }: Execution, end: CallEnd): void {
    if (cursor !== 0) {
      this.fetch(answer, cursor, rows, end);
      return;
    }
    const table = tableOf(statement, this.#session);
    if (table === undefined) {
      writeCallEnd(answer, { ...end, refusal: NO_TABLE });
      return;
    }
    const opened = this.#open.push({ table, sent: 0 });
    writeDescription(answer, table);
    if (rows > 0) {
      this.fetch(answer, opened, rows, end);
      return;
    }
    writeCursor(answer, opened);
    writeCallEnd(answer, { ...end, cursor: opened });
  }

  fetch(answer: TtcWriter, cursor: number, rows: number, end: CallEnd): void {
    const found = this.#open[cursor - 1];
    if (found === undefined) {
      writeCallEnd(answer, { ...end, refusal: NO_CURSOR });
      return;
    }
    const now = found.table.rows.slice(found.sent, found.sent + rows);
    found.sent += now.length;
    writeRows(answer, now);
    writeCursor(answer, cursor);
    const isAll = found.sent === found.table.rows.length;
    writeCallEnd(answer, { ...end, cursor, rows: found.sent, ...(isAll ? { refusal: NO_MORE } : {}) });
  }
}
