import type { Command } from 'commander';
import type { EnforcementView, RevocationView } from '../../control/index.ts';
import { counted, outputOf } from '../output.ts';
import { adminClientOf, adminOptions } from './admin-client.ts';
import { showCut, showPending } from './enforcement.ts';

/** What a revocation ended: a key id, an agent, or a connection. */
const subjectOf = ({ key_id, agent, instance, connection }: RevocationView): string => {
  if (key_id !== null) return key_id;
  if (agent === null) return `connection ${connection ?? '?'}`;
  return instance === null ? `agent ${agent}` : `agent ${agent}, instance ${instance}`;
};

const authRuleOf = (row: RevocationView): string | null =>
  row.auth_rule === null ? null : `${row.connection ?? 'namespace'}/${row.auth_rule}`;

/** `revocation list|show`. */
export const revocationCommands = (program: Command): void => {
  const group = program
    .command('revocation')
    .description('Keys, agents and connections that are dead. Connects to: the management API.');

  adminOptions(group.command('list').description('every revocation, newest first')).action(
    async (_options: object, command: Command) => {
      const output = outputOf(command);
      const rows = await adminClientOf(command).list<RevocationView>('/revocations');
      output.document(rows);
      output.table(rows, [
        { title: 'in force from', value: (row) => row.effective_at },
        { title: 'dead', value: subjectOf },
        { title: 'auth-rule', value: authRuleOf },
        { title: 'slot', value: (row) => row.slot },
        { title: 'why', value: (row) => row.kind },
        { title: 'actor', value: (row) => row.actor },
        { title: 'reason', value: (row) => row.reason },
        { title: 'revocation', value: (row) => row.revocation_id },
      ]);
    },
  );

  adminOptions(
    group
      .command('show <revocation-id>')
      .description('one revocation and who has enforced it; exits 1 while a node or agent is pending'),
  ).action(async (id: string, _options: object, command: Command) => {
    const output = outputOf(command);
    const row = await adminClientOf(command).get<
      RevocationView & { readonly enforcement: Omit<EnforcementView, 'ms'> }
    >(`/revocations/${encodeURIComponent(id)}`);
    output.document(row);
    output.line(`${subjectOf(row)}: ${row.kind}, in force from ${row.effective_at}, by ${row.actor}`);
    if (row.reason !== '') output.line(`reason: ${row.reason}`);
    output.line(`enforced: ${showCut(row.enforcement)}, ${counted(row.enforcement.nodes, 'node')}`);
    showPending(output, row.enforcement);
  });
};
