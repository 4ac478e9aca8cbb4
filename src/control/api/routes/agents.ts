import { z } from 'zod';
import { listAgents } from '../../agent-registry.ts';
import { previewAgentRevocation, revokeAgent } from '../../revoke-agent.ts';
import { afterCursor, pageOf, type Route, route } from '../route.ts';
import { agentInstance, agentName, agentView, page, paging, reason, revokeAgentView } from '../schemas.ts';

export const agentRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/agents',
    summary: 'Agents logged in at any live node, as the nodes wrote with their last heartbeat (every 4 s)',
    role: 'auditor',
    query: z.strictObject({ ...paging, name: agentName.optional(), instance: agentInstance.optional() }),
    response: page(agentView),
    async handle({ query, services }) {
      const [name = '', instance = ''] = afterCursor(query.cursor).split('/', 2);
      const filter = { name: query.name, instance: query.instance };
      const found = await listAgents(services.context.database, filter, { name, instance }, query.limit + 1);
      return pageOf(
        found,
        query.limit,
        (one) => `${one.name}/${one.instance}`,
        (one) => one,
      );
    },
  }),
  route({
    method: 'post',
    path: '/agents/{name}/revoke',
    summary:
      'Revoke an agent for ever on every node, by the name that it claims, whichever key it uses; waits up to 2 s',
    role: 'operator',
    params: z.strictObject({ name: agentName }),
    body: z.strictObject({
      instance: agentInstance.optional(),
      reason: reason.default(''),
      dry_run: z.boolean().default(false),
    }),
    response: revokeAgentView,
    async handle({ params, body, actor, services }) {
      const { context, waiters } = services;
      const subject = { agent: params.name, instance: body.instance };
      if (body.dry_run) return { body: await previewAgentRevocation(context, subject) };
      return { body: await revokeAgent(context, waiters, subject, body.reason, actor) };
    },
  }),
];
