import type { Command } from 'commander';
import { auditCommand } from './audit/index.ts';
import { checkCommand } from './check.ts';
import { initCommand } from './init/command.ts';
import { manageCommands } from './manage/index.ts';
import { migrateCommand } from './migrate.ts';
import { policyCommand } from './policy/command.ts';
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

/** What looks at things and changes them. */
export const otherCommands = (program: Command): void => {
  program.commandsGroup('Look:');
  checkCommand(program);
  statusCommand(program);
  whyCommand(program);
  program.commandsGroup('Manage:');
  manageCommands(program);
  program.commandsGroup('Policy and evidence:');
  policyCommand(program);
  auditCommand(program);
};
