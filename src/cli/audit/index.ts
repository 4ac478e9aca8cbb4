import type { Command } from 'commander';
import { explainCommand } from './explain.ts';
import { exportCommand } from './export.ts';
import { importCommand } from './import.ts';
import { proveCommand } from './prove.ts';
import { queryCommand } from './query.ts';
import { retainCommand } from './retain.ts';
import { showCommand } from './show.ts';
import { siteCommand } from './site.ts';
import { tailCommand } from './tail.ts';
import { trustCommand } from './trust.ts';
import { verifyCommand } from './verify.ts';

/** `sallyport audit …` */
export const auditCommand = (program: Command): void => {
  const audit = program.command('audit').description('read and verify the evidence');
  tailCommand(audit);
  queryCommand(audit);
  showCommand(audit);
  explainCommand(audit);
  verifyCommand(audit);
  proveCommand(audit);
  exportCommand(audit);
  importCommand(audit);
  siteCommand(audit);
  retainCommand(audit);
  trustCommand(audit);
};
