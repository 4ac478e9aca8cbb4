import { type AgentRecord, listAgents } from './agent-registry.ts';
import { appendEvent } from './change-event.ts';
import type { ControlContext } from './context.ts';
import { type AckWaiters, awaitEnforcement, type EnforcementResult } from './enforcement-wait.ts';
import { listNodes, MAX_PREVIEWED_NODES } from './node-registry.ts';
import { revocationOfAgent, writeRevocation } from './revocation-store.ts';

/** Installations of one name that a preview counts. */
const MAX_PREVIEWED = 10_000;

/** An agent by its name, or one installation of it. */
export interface AgentSubject {
  readonly agent: string;
  readonly instance: string | undefined;
}

/** What revoking an agent did. */
export interface RevokeAgentResult extends EnforcementResult {
  readonly agent: string;
  readonly instance: string | null;
}

const installationsOf = (
  context: ControlContext,
  { agent, instance }: AgentSubject,
): Promise<readonly AgentRecord[]> =>
  listAgents(context.database, { name: agent, instance }, { name: '', instance: '' }, MAX_PREVIEWED);

/**
 * Revokes an agent on every node, by the name that it claims at its login, whichever key it uses. The name need not be
 * known: it is refused from now on. Revoking a revoked agent writes nothing and tells how it stands.
 * @throws AppError ERR_CONTROL_UNAVAILABLE
 */
export const revokeAgent = async (
  context: ControlContext,
  waiters: AckWaiters,
  subject: AgentSubject,
  reason: string,
  actor: string,
): Promise<RevokeAgentResult> => {
  const { agent, instance } = subject;
  const startMs = context.clock.monotonicMs();
  const id = await context.database.transaction(async (tx) => {
    // Two at once would both find none: the second waits for the first.
    await tx.query('select pg_advisory_xact_lock(hashtext($1), hashtext($2))', ['sallyport agent', agent]);
    const earlier = await revocationOfAgent(context, tx, agent, instance);
    if (earlier !== undefined) return earlier.revocationId;
    const written = await writeRevocation(context, tx, {
      kind: 'identity_revoked',
      agent,
      instance,
      reason,
      actor,
      afterS: 0,
    });
    await appendEvent(tx, context.clock, {
      type: 'identity.revoked',
      subject: { namespace: context.namespace, actor, agent },
      data: {
        revocation_id: written,
        reason: reason === '' ? 'identity_revoked' : reason,
        ...(instance === undefined ? {} : { before: { instance } }),
      },
    });
    return written;
  });
  return {
    agent,
    instance: instance ?? null,
    ...(await awaitEnforcement(context, waiters, [id], startMs)),
  };
};

/** What revoking an agent would cut, as the nodes wrote with their last heartbeat. */
export const previewAgentRevocation = async (
  context: ControlContext,
  subject: AgentSubject,
): Promise<RevokeAgentResult & { readonly dry_run: true; readonly logins: number }> => {
  const startMs = context.clock.monotonicMs();
  const installations = await installationsOf(context, subject);
  const nodes = await listNodes(context, '', MAX_PREVIEWED_NODES);
  return {
    dry_run: true,
    agent: subject.agent,
    instance: subject.instance ?? null,
    nodes: nodes.filter((node) => node.state === 'live').length,
    logins: installations.reduce((sum, one) => sum + one.nodes.length, 0),
    links: installations.reduce((sum, { links }) => sum + links, 0),
    streams: installations.reduce((sum, { streams }) => sum + streams, 0),
    ms: Math.round((context.clock.monotonicMs() - startMs) * 10) / 10,
    pending: [],
  };
};
