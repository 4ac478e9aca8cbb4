import type { Command } from 'commander';
import { outputOf } from '../output.ts';
import { adminClientOf, adminOptions } from './admin-client.ts';

interface RevocationView {
  readonly revocation_id: string;
  readonly key_id: string;
  readonly kind: string;
  readonly reason: string;
  readonly connection: string | null;
  readonly auth_rule: string;
  readonly slot: string;
  readonly actor: string;
  readonly effective_at: string;
}

/** `revocation list`. */
export const revocationCommands = (program: Command): void => {
  const group = program
    .command('revocation')
    .description('Keys that are dead. Connects to: the management API.');
  adminOptions(group.command('list').description('every revocation, newest first')).action(
    async (_options: object, command: Command) => {
      const output = outputOf(command);
      const rows = await adminClientOf(command).list<RevocationView>('/revocations');
      output.document(rows);
      output.table(rows, [
        { title: 'in force from', value: (row) => row.effective_at },
        { title: 'key id', value: (row) => row.key_id },
        { title: 'auth-rule', value: (row) => `${row.connection ?? 'namespace'}/${row.auth_rule}` },
        { title: 'slot', value: (row) => row.slot },
        { title: 'why', value: (row) => row.kind },
        { title: 'actor', value: (row) => row.actor },
        { title: 'reason', value: (row) => row.reason },
      ]);
    },
  );
};
