import { type Claim, expandClaims, formatConnectionString, keyIdOf, newKeyText } from '../identity/index.ts';
import { appendEvent, ruleSubject, stateOf } from './change-event.ts';
import { type ControlContext, NAMESPACE_SCOPE } from './context.ts';
import type { Queryable, Transaction } from './database.ts';
import type { DisclosedKey, KeyRecord, KeySlot, KeyState, StoredAuthRule } from './records.ts';

interface KeyRow {
  readonly key_id: string;
  readonly auth_rule_id: string;
  readonly connection: string | null;
  readonly connection_id: string | null;
  readonly auth_rule: string;
  readonly slot: KeySlot;
  readonly claims: Claim[];
  readonly state: KeyState;
  readonly created_at: Date;
  readonly retire_at: Date | null;
  readonly last_used_at: Date | null;
  readonly sort_key: string;
  readonly keyring_key: string;
  readonly sealed: Buffer;
}

/** A key with what opens it. */
export interface StoredKey extends KeyRecord {
  readonly authRuleId: string;
  readonly connectionId: string | undefined;
  readonly keyringKey: string;
  readonly sealed: Buffer;
}

// A retiring key whose time has come is dead although its row still says otherwise: one truth for readers.
const SELECT = `select k.key_id, k.auth_rule_id, c.name as connection, r.connection_id, r.name as auth_rule, k.slot,
    r.claims, case when k.state = 'retiring' and k.retire_at <= now() then 'revoked' else k.state end as state,
    k.created_at, k.retire_at, k.keyring_key, k.sealed,
    (select max(u.last_used_at) from control.key_usage u where u.key_id = k.key_id) as last_used_at,
    coalesce(c.name, '') || '/' || r.name || '/' || k.slot || '/' || k.key_id as sort_key
  from control.key k
  join control.auth_rule r on r.id = k.auth_rule_id
  left join control.connection c on c.id = r.connection_id`;

const recordOf = (row: KeyRow): StoredKey => ({
  keyId: row.key_id,
  authRuleId: row.auth_rule_id,
  connection: row.connection ?? undefined,
  connectionId: row.connection_id ?? undefined,
  authRule: row.auth_rule,
  slot: row.slot,
  claims: expandClaims(row.claims),
  state: row.state,
  createdAt: row.created_at,
  retireAt: row.retire_at ?? undefined,
  lastUsedAt: row.last_used_at ?? undefined,
  keyringKey: row.keyring_key,
  sealed: row.sealed,
});

/** What digests of a key are made over. */
export const keyView = (key: Pick<KeyRecord, 'keyId' | 'slot' | 'state'>): object => ({
  key_id: key.keyId,
  slot: key.slot,
  state: key.state,
});

/** The key as its holder gets it. */
export const disclosedKey = (
  context: Pick<ControlContext, 'namespace' | 'publicPort'>,
  key: Pick<KeyRecord, 'keyId' | 'connection' | 'authRule' | 'slot'>,
  text: string,
): DisclosedKey => ({
  keyId: key.keyId,
  connection: key.connection,
  authRule: key.authRule,
  slot: key.slot,
  key: text,
  connectionString: formatConnectionString({
    host: context.namespace,
    ...(context.publicPort === undefined ? {} : { port: context.publicPort }),
    keyName: key.authRule,
    key: text,
    ...(key.connection === undefined ? {} : { entityPath: key.connection }),
  }),
});

/** Makes an active key in a slot, which must be free, and its event. */
export const createKey = async (
  context: ControlContext,
  tx: Transaction,
  rule: StoredAuthRule,
  slot: KeySlot,
  type: 'key.created' | 'key.rotated',
  actor: string,
  replaced?: KeyRecord,
): Promise<DisclosedKey> => {
  const text = newKeyText();
  const keyId = keyIdOf(text);
  const sealed = context.keyring.seal(text, keyId);
  await tx.query(
    `insert into control.key (key_id, auth_rule_id, slot, keyring_key, sealed) values ($1, $2, $3, $4, $5)`,
    [keyId, rule.id, slot, sealed.keyringKey, sealed.sealed],
  );
  const after = stateOf(keyView({ keyId, slot, state: 'active' }));
  await appendEvent(tx, context.clock, {
    type,
    subject: { ...ruleSubject(context, actor, rule), key_id: keyId, key_slot: slot },
    data: replaced === undefined ? { after } : { before: stateOf(keyView(replaced)), after },
  });
  return disclosedKey(context, { keyId, connection: rule.connection, authRule: rule.name, slot }, text);
};

/** One key by its id; undefined when it never was or its auth-rule is gone. */
export const findKey = async (
  context: Pick<ControlContext, 'namespace'>,
  from: Queryable,
  keyId: string,
  lock: 'for update of k' | '' = '',
): Promise<StoredKey | undefined> => {
  const rows = await from.query<KeyRow>(`${SELECT} where r.namespace = $1 and k.key_id = $2 ${lock}`, [
    context.namespace,
    keyId,
  ]);
  return rows[0] && recordOf(rows[0]);
};

/** The keys of an auth-rule, the active first. */
export const keysOfRule = async (from: Queryable, authRuleId: string): Promise<readonly StoredKey[]> => {
  const rows = await from.query<KeyRow>(`${SELECT} where k.auth_rule_id = $1 order by k.state, k.slot`, [
    authRuleId,
  ]);
  return rows.map(recordOf);
};

export interface KeyFilter {
  /** A connection's name or `namespace`. */
  readonly scope?: string | undefined;
  readonly authRule?: string | undefined;
  readonly slot?: KeySlot | undefined;
}

/** At most `limit` keys above the sort key (connection, auth-rule, slot, key id). */
export const listKeys = async (
  context: ControlContext,
  filter: KeyFilter,
  after: string,
  limit: number,
): Promise<readonly { readonly key: KeyRecord; readonly sortKey: string }[]> => {
  const rows = await context.database.query<KeyRow>(
    `select * from (${SELECT}
       where r.namespace = $1 and ($2::text is null or coalesce(c.name, '${NAMESPACE_SCOPE}') = $2)
         and ($3::text is null or r.name = $3) and ($4::text is null or k.slot = $4)) as listed
     where sort_key collate "C" > $5 order by sort_key collate "C" limit $6`,
    [context.namespace, filter.scope ?? null, filter.authRule ?? null, filter.slot ?? null, after, limit],
  );
  return rows.map((row) => ({ key: recordOf(row), sortKey: row.sort_key }));
};

/** A rule of a scope with its keys, for admission. */
export interface ScopeKey {
  readonly authRule: string;
  readonly keyId: string;
  readonly slot: KeySlot;
  readonly state: KeyState;
  readonly claims: readonly Claim[];
  readonly text: string;
}

/** Every key of a connection (by id) or of the namespace (undefined), decrypted, primary before secondary. */
export const scopeKeys = async (
  context: ControlContext,
  connectionId: string | undefined,
): Promise<readonly ScopeKey[]> => {
  const rows = await context.database.query<KeyRow>(
    `${SELECT} where r.namespace = $1 and r.connection_id is not distinct from $2
     order by r.name, k.state, k.slot, k.created_at desc`,
    [context.namespace, connectionId ?? null],
  );
  return rows.map((row) => ({
    authRule: row.auth_rule,
    keyId: row.key_id,
    slot: row.slot,
    state: row.state,
    claims: expandClaims(row.claims),
    text: context.keyring.open({ keyringKey: row.keyring_key, sealed: row.sealed }, row.key_id),
  }));
};
