/** One finding of `policy check`, at a place in a file. */
export interface Diagnostic {
  readonly file: string;
  /** 1-based */
  readonly line: number;
  /** 1-based */
  readonly column: number;
  /** Which check found it: `opa`, `fmt`, `regal`, `library` or a lint's name. */
  readonly rule: string;
  readonly message: string;
  /** Absent for what keeps a directory from passing. */
  readonly severity?: 'warning';
}

/** `file:line:col: message (rule)`, as editors and CI understand it. */
export const diagnosticText = ({ file, line, column, rule, message, severity }: Diagnostic): string =>
  `${file}:${String(line)}:${String(column)}: ${severity === undefined ? '' : `${severity}: `}${message} (${rule})`;
