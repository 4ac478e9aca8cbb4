import { z } from 'zod';
import {
  connectionUnknown,
  createConnection,
  deleteConnection,
  findConnection,
  listConnections,
  updateConnection,
} from '../../connection-store.ts';
import { awaitEnforcement } from '../../enforcement-wait.ts';
import { afterCursor, pageOf, type Route, route } from '../route.ts';
import {
  connectionName,
  connectionView,
  disclosedKeyView,
  enforcementView,
  labels,
  newConnectionName,
  page,
  paging,
  target,
  timestamp,
} from '../schemas.ts';
import { viewOfConnection, viewOfDisclosedKey } from '../views.ts';

const named = z.strictObject({ name: connectionName });

export const connectionRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/connections',
    summary: 'Connections, by name',
    role: 'auditor',
    query: z.strictObject(paging),
    response: page(connectionView),
    async handle({ query, services }) {
      const found = await listConnections(services.context, afterCursor(query.cursor), query.limit + 1);
      return pageOf(found, query.limit, (one) => one.name, viewOfConnection);
    },
  }),
  route({
    method: 'post',
    path: '/connections',
    summary: 'Create a connection with defaultListener and defaultSender; their keys are shown this once',
    role: 'operator',
    body: z.strictObject({ name: newConnectionName, target, labels: labels.default({}) }),
    response: z.object({ ...connectionView.shape, keys: z.array(disclosedKeyView) }),
    status: 201,
    async handle({ body, actor, services }) {
      const { connection, keys } = await createConnection(services.context, body, actor);
      return {
        body: { ...viewOfConnection(connection), keys: keys.map(viewOfDisclosedKey) },
        version: connection.version,
      };
    },
  }),
  route({
    method: 'get',
    path: '/connections/{name}',
    summary: 'One connection',
    role: 'auditor',
    params: named,
    response: connectionView,
    async handle({ params, services }) {
      const found = await findConnection(services.context, services.context.database, params.name);
      if (found === undefined) throw connectionUnknown(params.name);
      return { body: viewOfConnection(found), version: found.version };
    },
  }),
  route({
    method: 'patch',
    path: '/connections/{name}',
    summary: 'Change target or labels; If-Match with the ETag guards against lost updates',
    role: 'operator',
    ifMatch: true,
    params: named,
    body: z.strictObject({ target: target.optional(), labels: labels.optional() }),
    response: connectionView,
    async handle({ params, body, ifMatch, actor, services }) {
      const updated = await updateConnection(services.context, params.name, body, ifMatch, actor);
      return { body: viewOfConnection(updated), version: updated.version };
    },
  }),
  route({
    method: 'delete',
    path: '/connections/{name}',
    summary: 'Delete a connection; its keys are revoked and its streams end; waits up to 2 s for the nodes',
    role: 'operator',
    ifMatch: true,
    params: named,
    response: z.object({ name: z.string(), revoked_keys: z.int(), enforcement: enforcementView }),
    async handle({ params, ifMatch, actor, services }) {
      const { context, waiters } = services;
      const startMs = context.clock.monotonicMs();
      const removed = await deleteConnection(context, params.name, ifMatch, actor);
      const enforcement = await awaitEnforcement(context, waiters, removed.revocations, startMs);
      return { body: { name: params.name, revoked_keys: removed.revokedKeys, enforcement } };
    },
  }),
  route({
    method: 'get',
    path: '/connections/{name}/failures',
    summary: 'The last failures of a connection that this node saw, newest first',
    role: 'auditor',
    params: named,
    response: z.object({
      items: z.array(
        z.object({
          at: timestamp,
          connection: z.string(),
          stage: z.enum(['login', 'link', 'stream']),
          code: z.string(),
          detail: z.string(),
          stream_id: z.string().nullable(),
          decision_id: z.string().nullable(),
          principal: z.string().nullable(),
          gateway: z.string().nullable(),
          agent: z.string().nullable(),
          reasons: z.array(z.string()),
        }),
      ),
    }),
    async handle({ params, services }) {
      const items = services.live.lastFailures(params.name);
      // Failures of a name that is no connection ("connection_unknown") are worth showing too.
      if (items.length === 0) {
        const found = await findConnection(services.context, services.context.database, params.name);
        if (found === undefined) throw connectionUnknown(params.name);
      }
      return { body: { items } };
    },
  }),
];
