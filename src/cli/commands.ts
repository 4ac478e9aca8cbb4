import type { Command } from 'commander';
import { checkCommand } from './check.ts';
import { doctorCommand } from './doctor/command.ts';
import { hostsCommand } from './hosts.ts';
import { initCommand } from './init/command.ts';
import { manageCommands } from './manage/index.ts';
import { migrateCommand } from './migrate.ts';
import { shellCommands, type WholeProgram } from './shell/command.ts';
import { statusCommand } from './status.ts';
import { upCommand } from './up/command.ts';
import { whyCommand } from './why.ts';

/** What starts things. */
export const runCommands = (program: Command): void => {
  program.commandsGroup('Start:');
  upCommand(program);
  initCommand(program);
  migrateCommand(program);
};

const lookAndManage = (program: Command, whole: WholeProgram, footer: string): void => {
  program.commandsGroup('Look:');
  checkCommand(program);
  doctorCommand(program);
  statusCommand(program);
  whyCommand(program);
  program.commandsGroup('Names:');
  hostsCommand(program);
  program.commandsGroup('Manage:');
  manageCommands(program);
  program.commandsGroup('Shell:');
  shellCommands(program, whole, footer);
};

/**
 * What looks at things and changes them. What policy and evidence import is most of what a start costs: a word that is
 * another command's is served without them, and anything else (help, a misspelt word) with everything.
 * @param first the first word of the command line
 * @param footer what `--help` says below the commands
 */
export const otherCommands = async (
  program: Command,
  first: string | undefined,
  whole: WholeProgram,
  footer: string,
): Promise<void> => {
  lookAndManage(program, whole, footer);
  const isServed = first !== undefined && program.commands.some((command) => command.name() === first);
  if (isServed) return;
  program.commandsGroup('Policy and evidence:');
  if (first !== 'audit') (await import('./policy/command.ts')).policyCommand(program);
  if (first !== 'policy') (await import('./audit/index.ts')).auditCommand(program);
};
