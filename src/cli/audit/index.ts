import type { Command } from 'commander';
import { queryCommand } from './query.ts';
import { showCommand } from './show.ts';
import { tailCommand } from './tail.ts';
import { trustCommand } from './trust.ts';
import { verifyCommand } from './verify.ts';

/** `sallyport audit …` */
export const auditCommand = (program: Command): void => {
  const audit = program.command('audit').description('read and verify the evidence');
  tailCommand(audit);
  queryCommand(audit);
  showCommand(audit);
  verifyCommand(audit);
  trustCommand(audit);
};
