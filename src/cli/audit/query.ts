import type { Command } from 'commander';
import { AuditReader, findNamedQuery, NAMED_QUERIES, runNamedQuery } from '../../audit/index.ts';
import { AppError, sleep, systemClock } from '../../runtime/index.ts';
import type { CliErrorCode } from '../errors.ts';
import { outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, findAuditDatabase } from './access.ts';
import { showResult } from './rows.ts';

/** A decision is sealed within 250 ms and then sent. */
const TUNNEL_SETTLE_MS = 600;

interface QueryFlags extends DatabaseFlags {
  readonly param?: readonly string[];
  readonly csv?: boolean;
}

const parametersOf = (given: readonly string[]): Record<string, string> =>
  Object.fromEntries(
    given.map((text) => {
      const at = text.indexOf('=');
      if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
      throw new AppError<CliErrorCode>('ERR_CLI_USAGE', `--param ${JSON.stringify(text)} is not NAME=VALUE`);
    }),
  );

const query = async (question: string | undefined, flags: QueryFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  if (question === undefined) {
    output.document(NAMED_QUERIES);
    output.table(NAMED_QUERIES, [
      { title: 'name', value: (named) => named.name },
      {
        title: 'parameters',
        value: (named) => named.parameters.map((parameter) => parameter.name).join(' '),
      },
      { title: 'question', value: (named) => named.question },
    ]);
    return;
  }
  const named = findNamedQuery(question);
  if (named === undefined && !/\s/.test(question.trim())) {
    throw new AppError<CliErrorCode>(
      'ERR_CLI_USAGE',
      `there is no query ${JSON.stringify(question)}; \`sallyport audit query\` lists them`,
    );
  }
  const given = parametersOf(flags.param ?? []);
  const reader = await AuditReader.connect(findAuditDatabase(flags).databaseUrl);
  try {
    // By then the record of this very stream has reached the database that it leads to.
    if (flags.tunnel === true) await sleep(systemClock, TUNNEL_SETTLE_MS);
    const result =
      named === undefined ? await reader.query(question) : await runNamedQuery(reader, named, given);
    showResult(output, result, flags.csv === true);
  } finally {
    await reader.close();
  }
};

export const queryCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('query')
      .summary('ask a named question, or SQL')
      .description(
        'Answers a named question (without one: lists them), or runs one SQL statement in a transaction that cannot ' +
          'write. Connects to: the audit database, as role audit_read, audit_verify or its owner.',
      )
      .argument('[name-or-sql]', 'name of a question, or a SQL statement over the views of schema audit'),
  )
    .option('-p, --param <name=value...>', 'parameters of the question')
    .option('--tunnel', 'go through the tunnel of the running `up`: its connection audit-db, as its reader')
    .option('--csv', 'CSV instead of a table')
    .action(query);
};
