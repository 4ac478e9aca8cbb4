import type { Command } from 'commander';
import { type ExitCode, terminalText } from '../runtime/index.ts';

export interface GlobalOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

/** One column of a table: its heading and how a row fills it. */
export interface Column<Row> {
  readonly title: string;
  readonly value: (row: Row) => string | number | boolean | null | undefined;
  readonly align?: 'left' | 'right';
}

/** What a command says: results on stdout, everything else on stderr. Foreign text is escaped on the way. */
export interface Output {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  /** Whether `progress` shows anything. */
  readonly showsProgress: boolean;
  /** A line for people on stdout; nothing with --json. */
  line(text?: string): void;
  /** The one JSON document of a command; nothing without --json. */
  document(value: unknown): void;
  /** One line of JSON lines; nothing without --json. */
  jsonLine(value: unknown): void;
  /** A table for people on stdout; nothing with --json. */
  table<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): void;
  /** A line on stderr, not with --quiet. */
  note(text: string): void;
  /** A line on stderr, only with -v. */
  detail(text: string): void;
  /** What is being done right now: on a terminal only, replaced by the next one. */
  progress(text: string | undefined): void;
  /** The exit code of the process once the command has returned. */
  exitWith(code: ExitCode): void;
}

const write = (stream: NodeJS.WriteStream, text: string): void => {
  stream.write(text);
};

/** `1 link`, `2 links`; `many` where it is not the one with an s. */
export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${String(count)} ${count === 1 ? one : many}`;

/** Escapes what could move the cursor, line by line. Nothing of ours is coloured, so NO_COLOR has nothing to do. */
const safe = (text: string): string => text.split('\n').map(terminalText).join('\n');

const INVISIBLE = /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** JSON that may be shown on a terminal: what JSON itself leaves unescaped and a terminal obeys is escaped too. */
export const jsonText = (value: unknown, indent?: number): string =>
  JSON.stringify(value, null, indent).replace(
    INVISIBLE,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );

const cell = (value: string | number | boolean | null | undefined): string =>
  value === null || value === undefined ? '-' : terminalText(String(value));

/** Lines of a table with aligned columns; the last one is not padded. */
export const tableLines = <Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string[] => {
  const cells = [
    columns.map((column) => column.title.toUpperCase()),
    ...rows.map((row) => columns.map((column) => cell(column.value(row)))),
  ];
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => line[index]?.length ?? 0)));
  return cells.map((line) =>
    line
      .map((text, index) => {
        const width = widths[index] ?? 0;
        if (columns[index]?.align === 'right') return text.padStart(width);
        return index === columns.length - 1 ? text : text.padEnd(width);
      })
      .join('  ')
      .trimEnd(),
  );
};

const CLEAR_LINE = '\r\u001b[2K';

/** The output of a command, from the global options of its program. */
export const outputOf = (command: Command): Output => createOutput(command.optsWithGlobals<GlobalOptions>());

export const createOutput = (options: GlobalOptions): Output => {
  const json = options.json === true;
  const quiet = options.quiet === true;
  const verbose = options.verbose === true;
  const showsProgress = process.stderr.isTTY && !quiet && !json;
  let hasProgress = false;
  const clear = (): void => {
    if (!hasProgress) return;
    write(process.stderr, CLEAR_LINE);
    hasProgress = false;
  };
  return {
    json,
    quiet,
    verbose,
    showsProgress,
    line(text = '') {
      clear();
      if (!json) write(process.stdout, `${safe(text)}\n`);
    },
    document(value) {
      clear();
      if (json) write(process.stdout, `${jsonText(value, 2)}\n`);
    },
    jsonLine(value) {
      clear();
      if (json) write(process.stdout, `${jsonText(value)}\n`);
    },
    table(rows, columns) {
      clear();
      if (!json) write(process.stdout, `${tableLines(rows, columns).join('\n')}\n`);
    },
    note(text) {
      clear();
      if (!quiet) write(process.stderr, `${safe(text)}\n`);
    },
    detail(text) {
      clear();
      if (verbose) write(process.stderr, `${safe(text)}\n`);
    },
    progress(text) {
      if (!showsProgress) return;
      clear();
      if (text === undefined) return;
      write(process.stderr, terminalText(text).slice(0, (process.stderr.columns || 80) - 1));
      hasProgress = true;
    },
    exitWith(code) {
      process.exitCode = code;
    },
  };
};
