import { z } from 'zod';
import { createToken, exchangeCode, listTokens, revokeToken } from '../../token-store.ts';
import { Problem } from '../problem.ts';
import { afterCursor, pageOf, type Route, route } from '../route.ts';
import { page, paging, role, tokenId, tokenLabel, tokenLifeSeconds, tokenView } from '../schemas.ts';
import { viewOfToken } from '../views.ts';

/** The operation that a one-time code is for. */
export const EXCHANGE_PATH = '/tokens/exchange';

export const tokenRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: '/tokens',
    summary: 'Management tokens without their text',
    role: 'owner',
    query: z.strictObject(paging),
    response: page(tokenView),
    async handle({ query, services }) {
      const found = await listTokens(services.context, afterCursor(query.cursor), query.limit + 1);
      return pageOf(found, query.limit, (one) => one.id, viewOfToken);
    },
  }),
  route({
    method: 'post',
    path: '/tokens',
    summary: 'Create a management token; its text is shown this once',
    role: 'owner',
    body: z.strictObject({ label: tokenLabel, role, expires_after_seconds: tokenLifeSeconds.optional() }),
    response: z.object({ ...tokenView.shape, token: z.string() }),
    status: 201,
    async handle({ body, actor, services }) {
      const { context } = services;
      const wanted = { label: body.label, role: body.role, expiresAfterS: body.expires_after_seconds };
      const { record, text } = await context.database.transaction((tx) =>
        createToken(context, tx, wanted, actor),
      );
      return { body: { ...viewOfToken(record), token: text } };
    },
  }),
  route({
    method: 'post',
    path: EXCHANGE_PATH,
    summary: 'With a one-time code as the credential: a token in its place, shown this once',
    role: 'owner',
    body: z.strictObject({}),
    response: z.object({ ...tokenView.shape, token: z.string() }),
    status: 201,
    async handle({ actor, services }) {
      const made = await exchangeCode(services.context, actor);
      if (made === undefined) throw new Problem(401, 'token_invalid', 'the code was used meanwhile');
      return { body: { ...viewOfToken(made.record), token: made.text } };
    },
  }),
  route({
    method: 'post',
    path: '/tokens/{token_id}/revoke',
    summary: 'End a management token at once',
    role: 'owner',
    params: z.strictObject({ token_id: tokenId }),
    response: tokenView,
    async handle({ params, actor, services }) {
      return { body: viewOfToken(await revokeToken(services.context, params.token_id, actor)) };
    },
  }),
];
