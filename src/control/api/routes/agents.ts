import { z } from 'zod';
import { listAgents } from '../../agent-registry.ts';
import { afterCursor, pageOf, type Route, route } from '../route.ts';
import { agentInstance, agentName, agentView, page, paging } from '../schemas.ts';

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
];
