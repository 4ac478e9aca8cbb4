import { Command, CommanderError } from 'commander';
import {
  ConfigError,
  EXIT,
  type ExitCode,
  exitProcess,
  isAppError,
  messageOf,
  terminalText,
} from '../runtime/index.ts';
import { exitCodeOf } from './errors.ts';
import { counted, createOutput, type GlobalOptions, jsonText } from './output.ts';
import { agentCommand } from './process/agent.ts';
import { gatewayCommand } from './process/gateway.ts';
import { relayCommand } from './process/relay.ts';
import { version } from './version.ts';

const FOOTER = `
Exit codes: 0 done; 1 the thing asked about is not so (denied, not verified, unhealthy, pending);
2 bad usage or configuration; 3 a needed service or tool is out of reach; 4 nothing wrong in
what was looked at, which was not everything (audit verify --since); 141 the reader of the output (| head) went away first.
Every command has --help, which says what it connects to. Error codes: docs/errors.md.`;

const PROCESSES: readonly string[] = ['relay', 'agent', 'gateway'];

/**
 * The command line. A long-lived process gets only its own kind of command, because everything that the others
 * import would stay in its memory.
 */
export const createProgram = async (argv: readonly string[]): Promise<Command> => {
  const program = new Command('sallyport')
    .description(
      'Policy and audit for hybrid connections: one decided, recorded, revocable stream at a time.',
    )
    .version(version, '-V, --version')
    .option('--json', 'one JSON document (or JSON lines) on stdout')
    .option('-q, --quiet', 'no notes on stderr')
    .option('-v, --verbose', 'say more; show where an unexpected error came from')
    .showHelpAfterError('(--help shows how)')
    .showSuggestionAfterError()
    .addHelpText('after', FOOTER)
    .configureHelp({ showGlobalOptions: false })
    .exitOverride();
  const first = argv.slice(2).find((argument) => !argument.startsWith('-'));
  const isProcess = first !== undefined && PROCESSES.includes(first);
  const others = isProcess ? undefined : await import('./commands.ts');
  others?.runCommands(program);
  program.commandsGroup('One process:');
  relayCommand(program);
  agentCommand(program);
  gatewayCommand(program);
  await others?.otherCommands(program, first, () => createProgram([]), FOOTER);
  return program;
};

/** What went wrong, for people; problems of a configuration stay in the form that editors jump to. */
const errorText = (thrown: unknown): string => {
  if (thrown instanceof ConfigError) {
    return `${thrown.message}\nsallyport: ${counted(thrown.problems.length, 'problem')} in the configuration (${thrown.code})`;
  }
  const message = messageOf(thrown).split('\n').map(terminalText).join('\n');
  return isAppError(thrown) ? `sallyport: ${message} (${thrown.code})` : `sallyport: ${message}`;
};

const report = (thrown: unknown, options: GlobalOptions): ExitCode => {
  const code = exitCodeOf(thrown);
  const known = isAppError(thrown);
  createOutput(options).progress(undefined);
  if (options.json === true) {
    const error = { code: known ? thrown.code : 'internal', message: messageOf(thrown) };
    process.stderr.write(`${jsonText({ error })}\n`);
  } else {
    process.stderr.write(`${errorText(thrown)}\n`);
  }
  if (options.verbose === true && thrown instanceof Error) process.stderr.write(`${thrown.stack ?? ''}\n`);
  return code;
};

/** Ends the process one turn later: that nobody reads any more is only told then. */
const end = async (code: ExitCode): Promise<never> => {
  await new Promise((resolve) => setImmediate(resolve));
  return exitProcess(code);
};

/** Runs one command line and ends the process with its exit code. */
export const main = async (argv: readonly string[]): Promise<void> => {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') exitProcess(EXIT.pipeClosed);
      throw error;
    });
  }
  let program: Command | undefined;
  try {
    program = await createProgram(argv);
    await program.parseAsync([...argv]);
    await end((process.exitCode ?? EXIT.ok) as ExitCode);
  } catch (thrown) {
    if (thrown instanceof CommanderError) await end(thrown.exitCode === 0 ? EXIT.ok : EXIT.usage);
    await end(report(thrown, program?.opts<GlobalOptions>() ?? {}));
  }
};
