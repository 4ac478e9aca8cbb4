import { createAuthRule, findAuthRule } from './auth-rule-store.ts';
import type { ControlContext } from './context.ts';
import { SYSTEM_ACTOR } from './token-store.ts';

/** The auth-rule that every namespace begins with, by Azure's name. */
export const ROOT_AUTH_RULE = 'RootManageSharedAccessKey';

/**
 * Makes the namespace with its RootManageSharedAccessKey when it is not there yet. A root rule that an owner
 * deleted stays deleted.
 */
export const ensureNamespace = async (context: ControlContext): Promise<void> => {
  await context.database.transaction(async (tx) => {
    const made = await tx.query(
      'insert into control.namespace (name) values ($1) on conflict do nothing returning name',
      [context.namespace],
    );
    if (made.length === 0) return;
    if ((await findAuthRule(context, tx, undefined, ROOT_AUTH_RULE)) !== undefined) return;
    const rule = { name: ROOT_AUTH_RULE, claims: ['Manage'] as const, connection: undefined };
    await createAuthRule(context, tx, rule, SYSTEM_ACTOR);
  });
};
