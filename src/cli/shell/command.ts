import { Argument, type Command } from 'commander';
import { environment } from '../../runtime/index.ts';
import { outputOf } from '../output.ts';
import { version } from '../version.ts';
import { bashCompletion } from './bash.ts';
import { fishCompletion } from './fish.ts';
import { manualPage } from './man.ts';
import { type CommandShape, shapeOf } from './shape.ts';
import { zshCompletion } from './zsh.ts';

const SECOND_MS = 1_000;

/** The script of each shell that there is one for. */
const COMPLETIONS: Readonly<Record<string, (program: CommandShape) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

/** The program with every command. */
export type WholeProgram = () => Promise<Command>;

const completionCommand = (program: Command, whole: WholeProgram): void => {
  program
    .command('completion')
    .summary('print the completion script of a shell')
    .description(
      'Prints what makes a shell complete commands, options and files: `source <(sallyport completion bash)`, the same ' +
        'with zsh after compinit, or `sallyport completion fish | source`. Connects to: nothing.',
    )
    .addArgument(new Argument('<shell>', 'whose').choices(Object.keys(COMPLETIONS)))
    .action(async (shell: string, _options: unknown, command: Command) => {
      const script = COMPLETIONS[shell]?.(shapeOf(await whole())) ?? '';
      outputOf(command).document({ shell, script });
      outputOf(command).line(script.trimEnd());
    });
};

/** The day of SOURCE_DATE_EPOCH (reproducible-builds.org), for a page that is part of a package; else none. */
const pageDate = (): string => {
  const seconds = Number(environment['SOURCE_DATE_EPOCH'] ?? '');
  return seconds > 0 ? new Date(seconds * SECOND_MS).toISOString().slice(0, 'YYYY-MM-DD'.length) : '';
};

const manualCommand = (program: Command, whole: WholeProgram, footer: string): void => {
  program
    .command('manual')
    .summary('print the manual page')
    .description('Prints sallyport(1), as man reads it: `sallyport manual | man -l -`. Connects to: nothing.')
    .action(async (_options: unknown, command: Command) => {
      const page = manualPage(shapeOf(await whole()), { version, date: pageDate(), footer });
      outputOf(command).document({ page });
      outputOf(command).line(page.trimEnd());
    });
};

/** What a shell and man are given. @param footer what `--help` says below the commands */
export const shellCommands = (program: Command, whole: WholeProgram, footer: string): void => {
  completionCommand(program, whole);
  manualCommand(program, whole, footer);
};
