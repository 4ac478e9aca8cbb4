import { z } from 'zod';
import { appendEvent } from '../../change-event.ts';
import { listNodes } from '../../node-registry.ts';
import { Problem } from '../problem.ts';
import { afterCursor, pageOf, pageOfAll, type Route, route } from '../route.ts';
import { connectionName, keyId, livePaging, page, paging, reason, timestamp } from '../schemas.ts';

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

const isOf = (wanted: string | undefined, is: string): boolean => wanted === undefined || wanted === is;

const streamGone = (id: string): Problem =>
  new Problem(404, 'not_found', `no connected agent has stream ${id}`);

export const liveRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/logins',
    summary: 'Agents and gateways logged in at this node, by login id',
    role: 'auditor',
    query: z.strictObject(livePaging),
    response: page(loginView),
    handle: ({ query, services }) =>
      Promise.resolve(pageOfAll(services.live.logins(), query, (login) => login.login_id)),
  }),
  route({
    method: 'get',
    path: '/links',
    summary: 'Data links that this node joins, by link id',
    role: 'auditor',
    query: z.strictObject({ ...livePaging, connection: connectionName.optional() }),
    response: page(linkView),
    handle({ query, services }) {
      const found = services.live.links().filter((link) => isOf(query.connection, link.connection));
      return Promise.resolve(pageOfAll(found, query, (link) => link.link_id));
    },
  }),
  route({
    method: 'get',
    path: '/streams',
    summary: 'Open streams, asked of the agents now for each page, by stream id',
    role: 'auditor',
    query: z.strictObject({
      ...livePaging,
      connection: connectionName.optional(),
      key_id: keyId.optional(),
    }),
    response: page(streamView),
    async handle({ query, services }) {
      const found = (await services.live.streams()).filter(
        (stream) => isOf(query.connection, stream.connection) && isOf(query.key_id, stream.key_id),
      );
      return pageOfAll(found, query, (stream) => stream.stream_id);
    },
  }),
  route({
    method: 'get',
    path: '/streams/{stream_id}',
    summary: 'One open stream, asked of the agents now',
    role: 'auditor',
    params: z.strictObject({ stream_id: z.uuid() }),
    response: streamView,
    async handle({ params, services }) {
      const id = params.stream_id.toLowerCase();
      const found = (await services.live.streams()).find((stream) => stream.stream_id === id);
      if (found === undefined) throw streamGone(id);
      return { body: found };
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
      if (!(await live.closeStream(params.stream_id, 'admin_closed'))) throw streamGone(params.stream_id);
      return { body: { stream_id: params.stream_id, closed: true } };
    },
  }),
  route({
    method: 'get',
    path: '/nodes',
    summary: 'Relay nodes and their last heartbeat, by name',
    role: 'auditor',
    query: z.strictObject(paging),
    response: page(
      z.object({
        name: z.string(),
        state: z.enum(['live', 'silent', 'left']),
        started_at: timestamp,
        last_seen_at: timestamp,
        agents: z.int(),
        gateways: z.int(),
      }),
    ),
    async handle({ query, services }) {
      const found = await listNodes(services.context, afterCursor(query.cursor), query.limit + 1);
      return pageOf(
        found,
        query.limit,
        (node) => node.name,
        (node) => ({
          name: node.name,
          state: node.state,
          started_at: node.startedAt.toISOString(),
          last_seen_at: node.lastSeenAt.toISOString(),
          ...node.parties,
        }),
      );
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
