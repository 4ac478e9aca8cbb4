import type { Claim } from '../identity/index.ts';
import { AppError, foreignCodeOf, uuidv7 } from '../runtime/index.ts';
import { appendEvent, notifyKeys, ruleSubject, stateOf } from './change-event.ts';
import { type ControlContext, NAMESPACE_SCOPE } from './context.ts';
import { type Queryable, type Transaction, UNIQUE_VIOLATION } from './database.ts';
import type { ControlErrorCode } from './errors.ts';
import { createKey } from './key-store.ts';
import type { AuthRuleRecord, ConnectionRecord, DisclosedKey, StoredAuthRule } from './records.ts';
import { revokeAllKeys } from './revocation-store.ts';

/** Most auth-rules of one connection or of the namespace; Azure allows 12. */
export const MAX_AUTH_RULES_PER_SCOPE = 100;

interface AuthRuleRow {
  readonly id: string;
  readonly connection: string | null;
  readonly connection_id: string | null;
  readonly name: string;
  readonly claims: Claim[];
  readonly version: number;
  readonly created_at: Date;
}

const recordOf = (row: AuthRuleRow): StoredAuthRule => ({
  id: row.id,
  connection: row.connection ?? undefined,
  connectionId: row.connection_id ?? undefined,
  name: row.name,
  claims: row.claims,
  version: row.version,
  createdAt: row.created_at,
});

const viewOf = (rule: AuthRuleRecord): object => ({
  id: rule.id,
  connection: rule.connection ?? null,
  name: rule.name,
  claims: rule.claims,
});

export interface NewAuthRule {
  readonly name: string;
  readonly claims: readonly Claim[];
  /** Undefined: a rule of the namespace. */
  readonly connection: Pick<ConnectionRecord, 'id' | 'name'> | undefined;
}

/** Makes an auth-rule with both keys. @throws AppError ERR_CONTROL_EXISTS, ERR_CONTROL_INVALID */
export const createAuthRule = async (
  context: ControlContext,
  tx: Transaction,
  wanted: NewAuthRule,
  actor: string,
): Promise<{ rule: AuthRuleRecord; keys: readonly DisclosedKey[] }> => {
  // Counting and inserting as one: two at once would both see the place that is left.
  await tx.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [
    `auth-rules of ${wanted.connection?.id ?? context.namespace}`,
  ]);
  const counted = await tx.query<{ count: number }>(
    `select count(*)::int as count from control.auth_rule
      where namespace = $1 and connection_id is not distinct from $2`,
    [context.namespace, wanted.connection?.id ?? null],
  );
  if ((counted[0]?.count ?? 0) >= MAX_AUTH_RULES_PER_SCOPE)
    throw new AppError<ControlErrorCode>(
      'ERR_CONTROL_INVALID',
      `there are ${MAX_AUTH_RULES_PER_SCOPE} auth-rules already, which is the limit`,
    );
  const id = uuidv7(context.clock);
  let createdAt: Date | undefined;
  try {
    const rows = await tx.query<{ created_at: Date }>(
      `insert into control.auth_rule (id, namespace, connection_id, name, claims)
       values ($1, $2, $3, $4, $5) returning created_at`,
      [id, context.namespace, wanted.connection?.id ?? null, wanted.name, wanted.claims],
    );
    createdAt = rows[0]?.created_at;
  } catch (error) {
    if (foreignCodeOf(error) !== UNIQUE_VIOLATION) throw error;
  }
  if (createdAt === undefined)
    throw new AppError<ControlErrorCode>(
      'ERR_CONTROL_EXISTS',
      `auth-rule ${JSON.stringify(`${wanted.connection?.name ?? NAMESPACE_SCOPE}/${wanted.name}`)} exists already`,
    );
  const rule: StoredAuthRule = {
    id,
    connection: wanted.connection?.name,
    connectionId: wanted.connection?.id,
    name: wanted.name,
    claims: wanted.claims,
    version: 1,
    createdAt,
  };
  await appendEvent(tx, context.clock, {
    type: 'auth_rule.changed',
    subject: ruleSubject(context, actor, rule),
    data: { after: stateOf(viewOf(rule)) },
  });
  const keys = [
    await createKey(context, tx, rule, 'primary', 'key.created', actor),
    await createKey(context, tx, rule, 'secondary', 'key.created', actor),
  ];
  await notifyKeys(tx, rule.connection);
  return { rule, keys };
};

const SELECT = `select r.id, c.name as connection, r.connection_id, r.name, r.claims, r.version, r.created_at
  from control.auth_rule r left join control.connection c on c.id = r.connection_id`;

/** One auth-rule; `connection` undefined means the namespace's. */
export const findAuthRule = async (
  context: Pick<ControlContext, 'namespace'>,
  from: Queryable,
  connection: string | undefined,
  name: string,
  lock: 'for update of r' | '' = '',
): Promise<StoredAuthRule | undefined> => {
  const rows = await from.query<AuthRuleRow>(
    `${SELECT} where r.namespace = $1 and c.name is not distinct from $2 and r.name = $3 ${lock}`,
    [context.namespace, connection ?? null, name],
  );
  return rows[0] && recordOf(rows[0]);
};

/** @throws AppError ERR_CONTROL_NOT_FOUND */
export const authRuleUnknown = (connection: string | undefined, name: string): AppError<ControlErrorCode> =>
  new AppError(
    'ERR_CONTROL_NOT_FOUND',
    `no auth-rule ${JSON.stringify(`${connection ?? NAMESPACE_SCOPE}/${name}`)}`,
  );

/** @throws AppError ERR_CONTROL_CONFLICT when the version is not the one expected. */
export const checkAuthRuleVersion = (rule: AuthRuleRecord, expected: number | undefined): void => {
  if (expected === undefined || rule.version === expected) return;
  const name = JSON.stringify(`${rule.connection ?? NAMESPACE_SCOPE}/${rule.name}`);
  throw new AppError<ControlErrorCode>(
    'ERR_CONTROL_CONFLICT',
    `auth-rule ${name} is at version ${rule.version}, not ${expected}`,
  );
};

/** At most `limit` auth-rules above the sort key, namespace first; `connection` narrows to one scope. */
export const listAuthRules = async (
  context: ControlContext,
  filter: { readonly scope: string | undefined },
  after: string,
  limit: number,
): Promise<readonly { readonly rule: AuthRuleRecord; readonly sortKey: string }[]> => {
  const rows = await context.database.query<AuthRuleRow & { readonly sort_key: string }>(
    `select * from (
       select r.id, c.name as connection, r.connection_id, r.name, r.claims, r.version, r.created_at,
         coalesce(c.name, '') || '/' || r.name as sort_key
       from control.auth_rule r left join control.connection c on c.id = r.connection_id
       where r.namespace = $1 and ($2::text is null or coalesce(c.name, '${NAMESPACE_SCOPE}') = $2)) as listed
     where sort_key collate "C" > $3 order by sort_key collate "C" limit $4`,
    [context.namespace, filter.scope ?? null, after, limit],
  );
  return rows.map((row) => ({ rule: recordOf(row), sortKey: row.sort_key }));
};

/**
 * Removes an auth-rule; each of its keys is revoked as `auth_rule_removed`.
 * @returns the revocations written
 * @throws AppError ERR_CONTROL_NOT_FOUND, ERR_CONTROL_CONFLICT
 */
export const deleteAuthRule = async (
  context: ControlContext,
  connection: string | undefined,
  name: string,
  expectedVersion: number | undefined,
  actor: string,
): Promise<readonly string[]> =>
  context.database.transaction(async (tx) => {
    const rule = await findAuthRule(context, tx, connection, name, 'for update of r');
    if (rule === undefined) throw authRuleUnknown(connection, name);
    checkAuthRuleVersion(rule, expectedVersion);
    const revocations = await revokeAllKeys(context, tx, { authRuleId: rule.id }, 'auth_rule_removed', actor);
    await tx.query('delete from control.auth_rule where id = $1', [rule.id]);
    await appendEvent(tx, context.clock, {
      type: 'auth_rule.changed',
      subject: ruleSubject(context, actor, rule),
      data: { before: stateOf(viewOf(rule)), reason: 'removed' },
    });
    await notifyKeys(tx, rule.connection);
    return revocations;
  });
