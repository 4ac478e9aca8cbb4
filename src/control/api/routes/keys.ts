import { z } from 'zod';
import { discloseKey, keyUnknown } from '../../key-rotation.ts';
import { findKey, listKeys } from '../../key-store.ts';
import { keyUsage } from '../../key-usage.ts';
import { previewRevocation, revokeKey } from '../../revoke-key.ts';
import { afterCursor, pageOf, type Route, route } from '../route.ts';
import {
  authRuleName,
  connectionName,
  disclosedKeyView,
  keyId,
  keyView,
  page,
  paging,
  reason,
  revokeView,
  scopeName,
  slot,
  timestamp,
} from '../schemas.ts';
import { viewOfDisclosedKey, viewOfKey } from '../views.ts';

const byId = z.strictObject({ key_id: keyId });

export const keyRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/keys',
    summary: 'Keys without their text',
    role: 'auditor',
    query: z.strictObject({
      ...paging,
      scope: scopeName.optional(),
      auth_rule: authRuleName.optional(),
      slot: slot.optional(),
    }),
    response: page(keyView),
    async handle({ query, services }) {
      await services.usage.flush();
      const filter = { scope: query.scope, authRule: query.auth_rule, slot: query.slot };
      const found = await listKeys(services.context, filter, afterCursor(query.cursor), query.limit + 1);
      return pageOf(
        found,
        query.limit,
        (one) => one.sortKey,
        (one) => viewOfKey(one.key),
      );
    },
  }),
  route({
    method: 'get',
    path: '/keys/{key_id}',
    summary: 'One key by its id',
    role: 'auditor',
    params: byId,
    response: keyView,
    async handle({ params, services }) {
      const key = await findKey(services.context, services.context.database, params.key_id);
      if (key === undefined) throw keyUnknown(params.key_id);
      return { body: viewOfKey(key) };
    },
  }),
  route({
    method: 'post',
    path: '/keys/{key_id}/revoke',
    summary: 'Revoke a key for ever on every node; waits up to 2 s for them',
    role: 'operator',
    params: byId,
    body: z.strictObject({ reason: reason.default(''), dry_run: z.boolean().default(false) }),
    response: revokeView,
    async handle({ params, body, actor, services }) {
      if (!body.dry_run)
        return {
          body: await revokeKey(services.context, services.waiters, params.key_id, body.reason, actor),
        };
      const { key, ...preview } = await previewRevocation(services.context, services.live, params.key_id);
      return { body: { ...preview, key: viewOfKey(key) } };
    },
  }),
  route({
    method: 'post',
    path: '/keys/{key_id}/disclose',
    summary: 'Show the text of a key; audited',
    role: 'owner',
    params: byId,
    body: z.strictObject({ reason: reason.default('') }),
    response: disclosedKeyView,
    async handle({ params, body, actor, services }) {
      const key = await discloseKey(services.context, params.key_id, body.reason, actor);
      return { body: viewOfDisclosedKey(key) };
    },
  }),
  route({
    method: 'get',
    path: '/key-usage',
    summary: 'Last use of keys and from where, by key id; outlives the keys',
    role: 'auditor',
    query: z.strictObject({ ...paging, key_id: keyId.optional(), connection: connectionName.optional() }),
    response: page(
      z.object({
        key_id: z.string(),
        connection: z.string().nullable(),
        auth_rule: z.string(),
        slot,
        last_used_at: timestamp,
        use_count: z.int(),
        live_streams: z.int(),
        sources: z.array(z.object({ source: z.string(), last_used_at: z.string() })),
      }),
    ),
    async handle({ query, services }) {
      await services.usage.flush();
      const of = { keyId: query.key_id, connection: query.connection };
      const found = await keyUsage(services.context, of, afterCursor(query.cursor), query.limit + 1);
      const streams = found.length === 0 ? [] : await services.live.streams();
      return pageOf(
        found,
        query.limit,
        (one) => one.keyId,
        (one) => ({
          key_id: one.keyId,
          connection: one.connection ?? null,
          auth_rule: one.authRule,
          slot: one.slot,
          last_used_at: one.lastUsedAt.toISOString(),
          use_count: one.useCount,
          live_streams: streams.filter((stream) => stream.key_id === one.keyId).length,
          sources: one.sources,
        }),
      );
    },
  }),
];
