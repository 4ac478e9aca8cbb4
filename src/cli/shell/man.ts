import { type CommandShape, flatten, type OptionShape } from './shape.ts';

export interface PageOptions {
  readonly version: string;
  /** `2026-11-27` */
  readonly date: string;
  /** `{code}: {what}` pairs and other words below all commands, as `--help` has them. */
  readonly footer: string;
}

/** Text of a page: nothing of it is taken for a request or an escape. */
const roff = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('…', '...')
    .split('\n')
    .map((line) => line.trim().replace(/^(?=[.'])/, '\\&'))
    .filter((line) => line !== '')
    .join('\n');

const option = ({ flags, description }: OptionShape): string =>
  `.TP\n.B ${roff(flags)}\n${roff(description) || '\\&'}`;

const usageOf = ({ path, options, arguments: taken, commands }: CommandShape): string =>
  [
    'sallyport',
    ...path,
    ...(options.length > 1 ? ['[options]'] : []),
    ...taken.map(({ usage }) => usage),
    ...(commands.length > 0 ? ['[command]'] : []),
  ].join(' ');

const section = (shape: CommandShape): string =>
  [
    `.SS ${roff(usageOf(shape))}`,
    roff(shape.description || shape.summary),
    ...shape.arguments.map(
      ({ usage, description }) => `.TP\n.I ${roff(usage)}\n${roff(description) || '\\&'}`,
    ),
    // Help is everywhere, and said once.
    ...shape.options.filter(({ words }) => !words.includes('--help')).map(option),
  ].join('\n');

/** The manual page sallyport(1), in the man macros of roff. */
export const manualPage = (
  program: CommandShape,
  { version, date, footer }: PageOptions,
): string => `.\\" Made from the commands of sallyport ${version}.
.TH SALLYPORT 1 "${date}" "sallyport ${version}" "User Commands"
.SH NAME
sallyport \\- policy and audit for hybrid connections
.SH SYNOPSIS
.B sallyport
.RI [ options ]
.I command
.RI [ arguments ]
.SH DESCRIPTION
${roff(program.description)}
.SH OPTIONS
These may be given to every command.
${program.options.map(option).join('\n')}
.SH COMMANDS
${flatten(program).slice(1).map(section).join('\n')}
.SH EXIT STATUS
${roff(footer)}
.SH ENVIRONMENT
.TP
.B SALLYPORT_ADMIN_URL
where the management API is; \\-\\-admin overrides it.
.TP
.BR SALLYPORT_ADMIN_TOKEN ", " SALLYPORT_ADMIN_TOKEN_FILE
the management token, or the file that has it.
.TP
.B DATABASE_URL
the PostgreSQL of commands that have \\-\\-database.
.TP
.B SALLYPORT_<SECTION>_<KEY>
overrides a value of a configuration file.
.SH FILES
.TP
.IR /etc/sallyport/relay.yaml ", " agent.yaml ", " gateway.yaml
configurations of the three services.
.TP
.I /etc/sallyport/managed.yaml
what an administrator decides over every agent of this machine.
.TP
.I /var/lib/sallyport
state of the services; also evidence that no database has yet.
.SH SEE ALSO
.I /usr/share/doc/sallyport/docs
`;
