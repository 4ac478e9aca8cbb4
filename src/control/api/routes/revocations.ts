import { z } from 'zod';
import { progressOf } from '../../enforcement-wait.ts';
import { findRevocation, listRevocations } from '../../revocation-store.ts';
import { Problem } from '../problem.ts';
import { afterCursor, pageOf, type Route, route } from '../route.ts';
import { enforcementView, page, paging, revocationView } from '../schemas.ts';
import { viewOfRevocation } from '../views.ts';

const uuid = z.uuid();

export const revocationRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/revocations',
    summary: 'Revocations of keys, agents and connections, newest first',
    role: 'auditor',
    query: z.strictObject(paging),
    response: page(revocationView),
    async handle({ query, services }) {
      const after = afterCursor(query.cursor);
      if (after !== '' && !uuid.safeParse(after).success)
        throw new Problem(400, 'invalid', 'query.cursor: is not a cursor of this list');
      const before = after === '' ? undefined : after;
      const found = await listRevocations(services.context, before, query.limit + 1);
      return pageOf(found, query.limit, (one) => one.revocationId, viewOfRevocation);
    },
  }),
  route({
    method: 'get',
    path: '/revocations/{revocation_id}',
    summary: 'One revocation and where its enforcement stands',
    role: 'auditor',
    params: z.strictObject({ revocation_id: uuid }),
    response: z.object({
      ...revocationView.shape,
      enforcement: enforcementView.omit({ ms: true }),
    }),
    async handle({ params, services }) {
      const { context } = services;
      const found = await findRevocation(context, context.database, params.revocation_id);
      if (found === undefined) throw new Problem(404, 'not_found', `no revocation ${params.revocation_id}`);
      const enforcement = await progressOf(context, [found.revocationId]);
      return { body: { ...viewOfRevocation(found), enforcement } };
    },
  }),
];
