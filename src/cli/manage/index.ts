import type { Command } from 'commander';
import { authRuleCommands } from './auth-rule.ts';
import { connectionCommands } from './connection.ts';
import { keyCommands } from './key.ts';
import { linkCommands, loginCommands, streamCommands } from './live.ts';
import { revocationCommands } from './revocation.ts';
import { tokenCommands } from './token.ts';

/** Every command that manages a namespace over its management API. */
export const manageCommands = (program: Command): void => {
  connectionCommands(program);
  authRuleCommands(program);
  keyCommands(program);
  tokenCommands(program);
  revocationCommands(program);
  streamCommands(program);
  loginCommands(program);
  linkCommands(program);
};
