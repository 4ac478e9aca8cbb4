import type { Command } from 'commander';
import { agentsCommands } from './agents.ts';
import { applyCommand } from './apply.ts';
import { authRuleCommands } from './auth-rule.ts';
import { connectionCommands } from './connection.ts';
import { keyCommands } from './key.ts';
import { keyringCommands } from './keyring.ts';
import { linkCommands, loginCommands, streamCommands } from './live.ts';
import { revocationCommands } from './revocation.ts';
import { tokenCommands } from './token.ts';

/** Every command that manages a namespace over its management API. */
export const manageCommands = (program: Command): void => {
  applyCommand(program);
  connectionCommands(program);
  authRuleCommands(program);
  keyCommands(program);
  keyringCommands(program);
  tokenCommands(program);
  revocationCommands(program);
  streamCommands(program);
  agentsCommands(program);
  loginCommands(program);
  linkCommands(program);
};
