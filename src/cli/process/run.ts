import type { Command } from 'commander';
import type { ZodType } from 'zod';
import {
  AppError,
  type Clock,
  ConfigError,
  createLogger,
  EXIT,
  type Logger,
  readConfig,
  runUntilSignal,
  systemClock,
} from '../../runtime/index.ts';
import { outputOf } from '../output.ts';

/** What relay, agent and gateway have in common once they run. */
interface RunningProcess<Config> {
  drain(): Promise<void>;
  reload(config: Config): Promise<void>;
  /** Takes up what comes from elsewhere than the configuration, when that cannot be read. */
  reloadManaged?(): Promise<void>;
  close(): Promise<void>;
}

interface ProcessKind<Config> {
  readonly name: 'relay' | 'agent' | 'gateway';
  readonly schema: ZodType<Config>;
  readonly start: (
    config: Config,
    deps: { readonly clock: Clock; readonly logger: Logger },
  ) => Promise<RunningProcess<Config>>;
  /** Streams may finish this long after the first signal, milliseconds. */
  readonly drainMs: (config: Config) => number;
}

export interface ProcessOptions {
  /** Absent only where a command below the process's own was meant. */
  readonly config?: string;
  readonly withParent?: boolean;
}

/** Beyond the drain itself: the last audit records, sockets, the database's goodbye. */
const CLOSE_MS = 5_000;

/** The options every process command has. */
export const processCommand = (program: Command, name: string): Command =>
  program
    .command(name)
    .option('-c, --config <file>', `the process's configuration, as ${name}.yaml of \`sallyport init\``)
    .option('--with-parent', 'also stop when standard input ends (used by `sallyport up`)');

/** The configuration that `-c` names. Not commander's required option: that would be required below the command too. */
export const configOf = (options: { readonly config?: string }, command: Command): string =>
  options.config ?? command.error("error: required option '-c, --config <file>' not specified");

/**
 * Reads the configuration again. A broken file changes nothing of it, and keeps nobody from what an administrator says
 * elsewhere.
 *
 * @throws ConfigError for the broken file, after that
 */
export const reloadFrom = async <Config>(
  file: string,
  schema: ZodType<Config>,
  started: Pick<RunningProcess<Config>, 'reload' | 'reloadManaged'>,
): Promise<void> => {
  let next: Config;
  try {
    next = await readConfig(file, schema);
  } catch (error) {
    await started.reloadManaged?.();
    throw error;
  }
  await started.reload(next);
};

/**
 * The configuration of a process; another process's is called what it is, instead of by all that it lacks.
 * @throws ConfigError, AppError ERR_CONFIG_UNREADABLE, ERR_CONFIG_INVALID
 */
export const readOwnConfig = async <Config>(
  file: string,
  { name, schema }: Pick<ProcessKind<Config>, 'name' | 'schema'>,
  warn: (message: string) => void,
): Promise<Config> => {
  try {
    return await readConfig(file, schema, { onWarning: ({ message }) => warn(message) });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const { checkConfig, configName } = await import('../check.ts');
    const other = await checkConfig(file).catch(() => undefined);
    if (other === undefined || other.kind === name || other.problems.length >= error.problems.length)
      throw error;
    const remedy = other.kind === 'managed' ? '' : `; start it with 'sallyport ${other.kind} -c ${file}'`;
    throw new AppError(
      'ERR_CONFIG_INVALID',
      `${file} is ${configName(other.kind)}, not one of ${name === 'agent' ? 'an' : 'a'} ${name}${remedy}`,
      { cause: error },
    );
  }
};

/** Runs one process in the foreground: SIGTERM drains, SIGHUP reads the configuration again. */
export const runProcess = async <Config>(
  kind: ProcessKind<Config>,
  options: ProcessOptions,
  command: Command,
): Promise<void> => {
  const file = configOf(options, command);
  const output = outputOf(command);
  const logger = createLogger({
    name: kind.name,
    level: output.verbose ? 'debug' : output.quiet ? 'warn' : 'info',
  });
  const config = await readOwnConfig(file, kind, (message) => logger.warn(message));
  const started = await kind.start(config, { clock: systemClock, logger });
  const code = await runUntilSignal({
    clock: systemClock,
    logger,
    deadlineMs: kind.drainMs(config) + CLOSE_MS,
    stopWithStdin: options.withParent === true,
    onReload: () => reloadFrom(file, kind.schema, started),
    onStop: async (cause) => {
      if (cause !== 'parent') await started.drain();
      await started.close();
    },
  });
  if (code !== EXIT.ok) output.exitWith(code);
};
