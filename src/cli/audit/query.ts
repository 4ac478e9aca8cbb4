import type { Command } from 'commander';
import {
  findNamedQuery,
  NAMED_QUERIES,
  type NamedQuery,
  type QueryParameter,
  runNamedQuery,
  standaloneSql,
  viewColumns,
} from '../../audit/index.ts';
import { AppError, sleep, systemClock } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { type Output, outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, withReader } from './access.ts';
import { showResult } from './rows.ts';
import { similarNames } from './similar.ts';

/** A decision is sealed within 250 ms and then sent. */
const TUNNEL_SETTLE_MS = 600;

interface QueryFlags extends DatabaseFlags {
  readonly param?: readonly string[];
  readonly csv?: boolean;
  readonly sql?: boolean;
  readonly views?: boolean;
}

const parametersOf = (given: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    given.map((text) => {
      const at = text.indexOf('=');
      if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
      throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `${JSON.stringify(text)} is not NAME=VALUE`);
    }),
  );

const parameterText = ({ name, fallback }: QueryParameter): string =>
  fallback === undefined ? `${name}=…` : `[${name}=${fallback}]`;

const list = (output: Output): void => {
  output.document(NAMED_QUERIES);
  output.table(NAMED_QUERIES, [
    { title: 'name', value: ({ name }) => name },
    { title: 'question', value: ({ question }) => question },
    { title: 'parameters', value: ({ parameters }) => parameters.map(parameterText).join(' ') },
  ]);
  output.note(
    'ask with `sallyport audit query NAME [PARAMETER=VALUE…]`; in brackets: what holds when not given',
  );
};

/** The named question; undefined for a statement of SQL. @throws AppError ERR_CLI_USAGE */
const namedOf = (question: string): NamedQuery | undefined => {
  const named = findNamedQuery(question);
  if (named !== undefined || /\s/.test(question.trim())) return named;
  const similar = similarNames(
    question,
    NAMED_QUERIES.map(({ name }) => name),
  );
  const hint = similar.length === 0 ? '' : ` did you mean ${similar.join(' or ')}?`;
  throw new AppError<CliErrorCode>(
    'ERR_CLI_USAGE',
    `there is no query ${JSON.stringify(question)};${hint} \`sallyport audit query\` lists them`,
  );
};

const usedText = (query: NamedQuery, given: Readonly<Record<string, string>>): string =>
  query.parameters.map(({ name, fallback }) => `${name}=${given[name] ?? fallback ?? ''}`).join(' ');

/** Whole sentences of what each column means: they do not fit the cells of an answer. */
const showViews = async (output: Output, flags: QueryFlags): Promise<void> =>
  withReader(flags, async (reader) => {
    const result = await viewColumns(reader);
    if (flags.csv === true) {
      showResult(output, result, { csv: true });
      return;
    }
    output.document(result.rows);
    output.table(
      result.rows,
      result.columns.map((name) => ({ title: name, value: (row) => String(row[name]) })),
    );
  });

const query = async (
  question: string | undefined,
  values: readonly string[],
  flags: QueryFlags,
  command: Command,
): Promise<void> => {
  const output = outputOf(command);
  if (flags.views === true) {
    if (question !== undefined) throw new AppError<CliErrorCode>('ERR_CLI_USAGE', '--views asks no question');
    await showViews(output, flags);
    return;
  }
  if (question === undefined) {
    list(output);
    return;
  }
  const named = namedOf(question);
  const given = parametersOf([...values, ...(flags.param ?? [])]);
  if (named === undefined && Object.keys(given).length > 0) {
    throw new AppError<CliErrorCode>('ERR_CLI_USAGE', 'only named questions take parameters');
  }
  if (flags.sql === true) {
    if (named === undefined) {
      throw new AppError<CliErrorCode>('ERR_CLI_USAGE', '--sql shows the SQL of a named question');
    }
    const sql = standaloneSql(named, given, systemClock);
    output.document({ name: named.name, sql });
    output.line(`${sql};`);
    return;
  }
  await withReader(flags, async (reader) => {
    // By then the record of this very stream has reached the database that it leads to.
    if (flags.tunnel === true) await sleep(systemClock, TUNNEL_SETTLE_MS);
    const result =
      named === undefined
        ? await reader.query(question)
        : await runNamedQuery(reader, named, given, systemClock);
    showResult(output, result, { csv: flags.csv === true, asked: named && usedText(named, given) });
    if (named?.note !== undefined) output.note(named.note);
  });
};

export const queryCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('query')
      .summary('ask a named question, or SQL')
      .description(
        'Answers a named question (without one: lists them), or runs one SQL statement in a transaction that cannot ' +
          'write. Times are like 30d or 2h (so long ago), a day, or an instant in RFC 3339. ' +
          'Connects to: the audit database, as role audit_read, audit_verify or its owner.',
      )
      .argument('[name-or-sql]', 'name of a question, or a SQL statement over the views of schema audit')
      .argument('[name=value...]', 'parameters of the question: from=7d'),
  )
    .option('-p, --param <name=value...>', 'the same as an option')
    .option('--views', 'list the views of schema audit that SQL can ask, with each column and what it means')
    .option('--sql', 'do not ask: print the SQL of the question, for psql')
    .option('--tunnel', 'go through the tunnel of the running `up`: its connection audit-db, as its reader')
    .option('--csv', 'CSV instead of a table')
    .action(query);
};
