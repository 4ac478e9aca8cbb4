import type { Command } from 'commander';
import { followEvents, type Row } from '../../audit/index.ts';
import { systemClock } from '../../runtime/index.ts';
import { outputOf } from '../output.ts';
import { type DatabaseFlags, databaseOptions, withReader } from './access.ts';
import { durationMs } from './moment.ts';

interface TailFlags extends DatabaseFlags {
  readonly since: string;
  readonly type?: string;
  readonly connection?: string;
  readonly principal?: string;
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '-');
const originOf = ({ origin, site }: Row): string =>
  typeof site === 'string' ? `${text(origin)} of site ${site}` : text(origin);

const tail = async (flags: TailFlags, command: Command): Promise<void> => {
  const output = outputOf(command);
  const sinceMs = durationMs('--since', flags.since);
  await withReader(flags, async (reader) => {
    const stop = new AbortController();
    const end = (): void => stop.abort(new Error('stopped'));
    process.once('SIGINT', end);
    process.once('SIGTERM', end);
    try {
      await followEvents({
        reader,
        clock: systemClock,
        signal: stop.signal,
        sinceMs,
        type: flags.type,
        connection: flags.connection,
        principal: flags.principal,
        onEvent(row: Row) {
          output.jsonLine(row);
          output.line(`${text(row.occurred_at)}  ${originOf(row).padEnd(20)}  ${text(row.summary)}`);
        },
      });
    } finally {
      process.off('SIGINT', end);
      process.off('SIGTERM', end);
    }
  });
};

export const tailCommand = (audit: Command): void => {
  databaseOptions(
    audit
      .command('tail')
      .summary('follow events as they are stored')
      .description(
        'Shows events as the database stores them, until interrupted; with --json one line of JSON each. ' +
          'Connects to: the audit database, as role audit_read, audit_verify or its owner.',
      ),
  )
    .option('--since <duration>', 'begin with events of the last …: 30s, 10m, 2h, 1d', '0s')
    .option('--type <type>', "only this type; '*' stands for anything: 'stream.*'")
    .option('--connection <name>', 'only of this connection')
    .option('--principal <name>', 'only of this principal')
    .action(tail);
};
