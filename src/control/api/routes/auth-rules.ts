import { z } from 'zod';
import {
  authRuleUnknown,
  createAuthRule,
  deleteAuthRule,
  findAuthRule,
  listAuthRules,
} from '../../auth-rule-store.ts';
import { connectionUnknown, findConnection } from '../../connection-store.ts';
import { NAMESPACE_SCOPE } from '../../context.ts';
import { rotateKey } from '../../key-rotation.ts';
import { awaitEnforcement } from '../../enforcement-wait.ts';
import { afterCursor, pageOf, type Route, route } from '../route.ts';
import {
  authRuleName,
  authRuleView,
  claim,
  disclosedKeyView,
  page,
  paging,
  enforcementView,
  retireAfterSeconds,
  revokeView,
  scopeName,
  slot,
  timestamp,
} from '../schemas.ts';
import { viewOfAuthRule, viewOfDisclosedKey } from '../views.ts';

const ruleParams = z.strictObject({ scope: scopeName, name: authRuleName });

const connectionOf = (scope: string): string | undefined => (scope === NAMESPACE_SCOPE ? undefined : scope);

export const authRuleRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/auth-rules',
    summary: 'Auth-rules; scope is a connection or "namespace"',
    role: 'auditor',
    query: z.strictObject({ ...paging, scope: scopeName.optional() }),
    response: page(authRuleView),
    async handle({ query, services }) {
      const after = afterCursor(query.cursor);
      const found = await listAuthRules(services.context, { scope: query.scope }, after, query.limit + 1);
      return pageOf(
        found,
        query.limit,
        (one) => one.sortKey,
        (one) => viewOfAuthRule(one.rule),
      );
    },
  }),
  route({
    method: 'post',
    path: '/auth-rules',
    summary: 'Create an auth-rule with both keys, shown this once',
    role: 'operator',
    body: z.strictObject({
      scope: scopeName,
      name: authRuleName,
      claims: z
        .array(claim)
        .min(1)
        .max(3)
        .refine((claims) => new Set(claims).size === claims.length, { error: 'names a claim twice' }),
    }),
    response: z.object({ ...authRuleView.shape, keys: z.array(disclosedKeyView) }),
    status: 201,
    async handle({ body, actor, services }) {
      const { context } = services;
      const created = await context.database.transaction(async (tx) => {
        const name = connectionOf(body.scope);
        const connection =
          name === undefined ? undefined : await findConnection(context, tx, name, 'for update');
        if (name !== undefined && connection === undefined) throw connectionUnknown(name);
        return createAuthRule(context, tx, { name: body.name, claims: body.claims, connection }, actor);
      });
      const made = { ...viewOfAuthRule(created.rule), keys: created.keys.map(viewOfDisclosedKey) };
      return { body: made, version: created.rule.version };
    },
  }),
  route({
    method: 'get',
    path: '/auth-rules/{scope}/{name}',
    summary: 'One auth-rule',
    role: 'auditor',
    params: ruleParams,
    response: authRuleView,
    async handle({ params, services }) {
      const { context } = services;
      const connection = connectionOf(params.scope);
      const rule = await findAuthRule(context, context.database, connection, params.name);
      if (rule === undefined) throw authRuleUnknown(connection, params.name);
      return { body: viewOfAuthRule(rule), version: rule.version };
    },
  }),
  route({
    method: 'delete',
    path: '/auth-rules/{scope}/{name}',
    summary: 'Remove an auth-rule; its keys are revoked and their streams end; waits up to 2 s for the nodes',
    role: 'operator',
    ifMatch: true,
    params: ruleParams,
    response: z.object({
      scope: z.string(),
      name: z.string(),
      revoked_keys: z.int(),
      enforcement: enforcementView,
    }),
    async handle({ params, ifMatch, actor, services }) {
      const { context, waiters } = services;
      const { scope, name } = params;
      const startMs = context.clock.monotonicMs();
      const revocations = await deleteAuthRule(context, connectionOf(scope), name, ifMatch, actor);
      const enforcement = await awaitEnforcement(context, waiters, revocations, startMs);
      return { body: { scope, name, revoked_keys: revocations.length, enforcement } };
    },
  }),
  route({
    method: 'post',
    path: '/auth-rules/{scope}/{name}/rotate',
    summary:
      'Put a new key into a slot, shown this once; the old one ends at once or after retire_after_seconds',
    role: 'operator',
    ifMatch: true,
    params: ruleParams,
    body: z.strictObject({ slot, retire_after_seconds: retireAfterSeconds.default(0) }),
    response: z.object({
      key: disclosedKeyView,
      replaced: z
        .object({ key_id: z.string(), retire_at: timestamp, enforcement: revokeView.nullable() })
        .nullable(),
    }),
    async handle({ params, body, ifMatch, actor, services }) {
      const { context, waiters } = services;
      const startMs = context.clock.monotonicMs();
      const rotation = {
        connection: connectionOf(params.scope),
        authRule: params.name,
        slot: body.slot,
        retireAfterS: body.retire_after_seconds,
        expectedVersion: ifMatch,
      };
      const { key, replaced, version } = await rotateKey(context, rotation, actor);
      const view = viewOfDisclosedKey(key);
      if (replaced === undefined) return { body: { key: view, replaced: null }, version };
      const enforcement =
        body.retire_after_seconds > 0
          ? null
          : {
              key_id: replaced.keyId,
              ...(await awaitEnforcement(context, waiters, [replaced.revocationId], startMs)),
            };
      const ended = { key_id: replaced.keyId, retire_at: replaced.retireAt.toISOString(), enforcement };
      return { body: { key: view, replaced: ended }, version };
    },
  }),
];
