import type { Parameter } from './requests.ts';
import type { Column, Value } from './tokens.ts';

/** What the statements may ask of the connection that they are run on. */
export interface Session {
  readonly id: number;
  /** What was asked over it is encrypted, not the login alone. */
  readonly isEncrypted: boolean;
}

export type Answer =
  | { readonly kind: 'rows'; readonly columns: readonly Column[]; readonly rows: Iterable<readonly Value[]> }
  | { readonly kind: 'done' }
  | { readonly kind: 'database'; readonly database: string }
  | { readonly kind: 'wait' }
  | { readonly kind: 'error'; readonly number: number; readonly level: number; readonly text: string };

export const GREETING = 'grüß Gott, 世界 🚪';
export const LINES = 2000;
/** 1,000 characters, 2,000 bytes on the wire: 4 MB in all. */
export const lineOf = (id: number): string => `${String(id)}:`.padEnd(1000, 'abcdefghij');
export const LONG_TEXT_CHARACTERS = 1_000_000;
const ENDLESS = 2_147_483_647;

const number = (name: string): Column => ({ name, type: 'int' });
const text = (name: string): Column => ({ name, type: 'nvarchar' });

const rows = (columns: readonly Column[], values: Iterable<readonly Value[]>): Answer => ({
  kind: 'rows',
  columns,
  rows: values,
});

function* numbers(count: number): Generator<number> {
  for (let id = 1; id <= count; id++) yield id;
}

function* lines(): Generator<readonly Value[]> {
  for (const id of numbers(LINES)) yield [id, lineOf(id)];
}

function* series(): Generator<readonly Value[]> {
  for (const value of numbers(ENDLESS)) yield [value];
}

type Statement = (parameters: readonly Parameter[], session: Session) => Answer;

/** By text as `normalise` makes it. */
const STATEMENTS = new Map<string, Statement>([
  [
    'select 6 * 7 as answer, greeting from greetings',
    () => rows([number('answer'), text('greeting')], [[42, GREETING]]),
  ],
  [
    'select @1 as n, @2 as word',
    (parameters) => rows([number('n'), text('word')], [parameters.map(({ value }) => value)]),
  ],
  ['select @@spid as session_id', (_, { id }) => rows([number('session_id')], [[id]])],
  [
    'select encrypt_option from sys.dm_exec_connections where session_id = @@spid',
    (_, { isEncrypted }) => rows([text('encrypt_option')], [[isEncrypted ? 'TRUE' : 'FALSE']]),
  ],
  ['select id, line from lines', () => rows([number('id'), text('line')], lines())],
  [
    'select long_text from long_texts',
    () => rows([{ name: 'long_text', type: 'nvarchar(max)' }], [['é'.repeat(LONG_TEXT_CHARACTERS)]]),
  ],
  [`select value from generate_series(1, ${ENDLESS})`, () => rows([number('value')], series())],
  ["waitfor delay '00:05:00'", () => ({ kind: 'wait' })],
  [
    'select 1 / 0',
    () => ({ kind: 'error', number: 8134, level: 16, text: 'Divide by zero error encountered.' }),
  ],
]);

/** Lower case, single spaces, no semicolon at the end, parameters by their order: `@1`, `@2`. */
const normalise = (sql: string): string => {
  const names: string[] = [];
  return sql
    .trim()
    .replace(/\s*;+$/, '')
    .replace(/\s+/g, ' ')
    .replace(/(?<!@)@\w+/g, (name) => {
      if (!names.includes(name)) names.push(name);
      return `@${names.indexOf(name) + 1}`;
    })
    .toLowerCase();
};

export const answerTo = (sql: string, parameters: readonly Parameter[], session: Session): Answer => {
  const statement = STATEMENTS.get(normalise(sql));
  if (statement !== undefined) return statement(parameters, session);
  const database = /^\s*use\s+\[?(\w+)\]?\s*;?\s*$/i.exec(sql)?.[1];
  if (database !== undefined) return { kind: 'database', database };
  if (/^\s*set\s/i.test(sql)) return { kind: 'done' };
  return { kind: 'error', number: 50000, level: 16, text: `The scripted endpoint has no answer to: ${sql}` };
};
