import type { Command } from 'commander';
import type { ZodType } from 'zod';
import {
  type Clock,
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
  const config = await readConfig(file, kind.schema);
  const started = await kind.start(config, { clock: systemClock, logger });
  const code = await runUntilSignal({
    clock: systemClock,
    logger,
    deadlineMs: kind.drainMs(config) + CLOSE_MS,
    stopWithStdin: options.withParent === true,
    onReload: async () => started.reload(await readConfig(file, kind.schema)),
    onStop: async (cause) => {
      if (cause !== 'parent') await started.drain();
      await started.close();
    },
  });
  if (code !== EXIT.ok) output.exitWith(code);
};
