import { z } from 'zod';
import { appendEvent } from '../../change-event.ts';
import { listNodes } from '../../node-registry.ts';
import { Problem } from '../problem.ts';
import { type Route, route } from '../route.ts';
import { connectionName, keyId, reason, timestamp } from '../schemas.ts';

const loginView = z.object({
  login_id: z.string(),
  node: z.string(),
  role: z.enum(['agent', 'gateway']),
  name: z.string(),
  instance: z.string(),
  address: z.string().nullable(),
  opened_at: timestamp,
  state: z.enum(['up', 'down']),
  build: z.string().nullable(),
  bundle_sha256: z.string().nullable(),
  credentials: z.array(
    z.object({
      connection: z.string().nullable(),
      key_id: z.string(),
      principal: z.string(),
      expires_at: timestamp,
    }),
  ),
  published: z.array(z.string()),
});

const linkView = z.object({
  link_id: z.string(),
  node: z.string(),
  connection: z.string(),
  carrier: z.string(),
  state: z.enum(['offered', 'half', 'joined']),
  gateway: z.string(),
  agent: z.string(),
  sender_principal: z.string(),
  sender_key_id: z.string(),
  listener_principal: z.string(),
  listener_key_id: z.string(),
  opened_at: timestamp,
  bytes_up: z.int(),
  bytes_down: z.int(),
});

const streamView = z.object({
  stream_id: z.string(),
  connection: z.string(),
  principal: z.string(),
  key_id: z.string(),
  agent: z.string(),
  gateway: z.string(),
  target: z.string(),
  opened_at: timestamp,
  bytes_up: z.int(),
  bytes_down: z.int(),
  policy_rule: z.string().nullable(),
});

const byConnection = z.strictObject({ connection: connectionName.optional() });

export const liveRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/logins',
    summary: 'Agents and gateways logged in at this node',
    role: 'auditor',
    response: z.object({ items: z.array(loginView) }),
    handle: ({ services }) => Promise.resolve({ body: { items: services.live.logins() } }),
  }),
  route({
    method: 'get',
    path: '/links',
    summary: 'Data links that this node joins',
    role: 'auditor',
    query: byConnection,
    response: z.object({ items: z.array(linkView) }),
    handle({ query, services }) {
      const all = services.live.links();
      const items = all.filter(
        (link) => query.connection === undefined || link.connection === query.connection,
      );
      return Promise.resolve({ body: { items } });
    },
  }),
  route({
    method: 'get',
    path: '/streams',
    summary: 'Open streams, asked of the agents now',
    role: 'auditor',
    query: z.strictObject({ connection: connectionName.optional(), key_id: keyId.optional() }),
    response: z.object({ items: z.array(streamView) }),
    async handle({ query, services }) {
      const items = (await services.live.streams()).filter(
        (stream) =>
          (query.connection === undefined || stream.connection === query.connection) &&
          (query.key_id === undefined || stream.key_id === query.key_id),
      );
      return { body: { items } };
    },
  }),
  route({
    method: 'post',
    path: '/streams/{stream_id}/close',
    summary: 'Close one stream; both ends see a reset, the record says admin_closed',
    role: 'operator',
    params: z.strictObject({ stream_id: z.uuid() }),
    body: z.strictObject({ reason: reason.default('') }),
    response: z.object({ stream_id: z.string(), closed: z.literal(true) }),
    async handle({ params, body, actor, services }) {
      const { context, live } = services;
      // The event is committed before the stream is touched: nothing is closed without a trace.
      await context.database.transaction((tx) =>
        appendEvent(tx, context.clock, {
          type: 'admin.action',
          subject: { namespace: context.namespace, actor, stream_id: params.stream_id },
          data: { action: 'stream.close', ...(body.reason === '' ? {} : { reason: body.reason }) },
        }),
      );
      if (!(await live.closeStream(params.stream_id, 'admin_closed')))
        throw new Problem(404, 'not_found', `no connected agent has stream ${params.stream_id}`);
      return { body: { stream_id: params.stream_id, closed: true } };
    },
  }),
  route({
    method: 'get',
    path: '/nodes',
    summary: 'Relay nodes and their last heartbeat',
    role: 'auditor',
    response: z.object({
      items: z.array(
        z.object({
          name: z.string(),
          state: z.enum(['live', 'silent', 'left']),
          started_at: timestamp,
          last_seen_at: timestamp,
          agents: z.int(),
          gateways: z.int(),
        }),
      ),
    }),
    async handle({ services }) {
      const items = (await listNodes(services.context)).map((node) => ({
        name: node.name,
        state: node.state,
        started_at: node.startedAt.toISOString(),
        last_seen_at: node.lastSeenAt.toISOString(),
        ...node.parties,
      }));
      return { body: { items } };
    },
  }),
  route({
    method: 'get',
    path: '/status',
    summary: 'This node: what it hears, what is connected',
    role: 'auditor',
    response: z.object({
      namespace: z.string(),
      node: z.string(),
      version: z.string(),
      admitting: z.boolean(),
      not_admitting_because: z.string().nullable(),
      control_database: z.object({ listening: z.boolean(), last_heard_ms_ago: z.int().nullable() }),
      agents: z.int(),
      gateways: z.int(),
      links: z.int(),
      published: z.array(z.string()),
    }),
    handle({ services }) {
      const { context, feed, live } = services;
      const logins = live.logins().filter((login) => login.state === 'up');
      const heardMs = feed.lastHeardMonotonicMs();
      const because = services.unavailableBecause();
      const body = {
        namespace: context.namespace,
        node: services.node,
        version: services.version,
        admitting: because === undefined,
        not_admitting_because: because ?? null,
        control_database: {
          listening: feed.listening,
          last_heard_ms_ago: Number.isFinite(heardMs)
            ? Math.round(context.clock.monotonicMs() - heardMs)
            : null,
        },
        agents: logins.filter((login) => login.role === 'agent').length,
        gateways: logins.filter((login) => login.role === 'gateway').length,
        links: live.links().filter((link) => link.state === 'joined').length,
        published: [...new Set(logins.flatMap((login) => login.published))].sort(),
      };
      return Promise.resolve({ body });
    },
  }),
];
