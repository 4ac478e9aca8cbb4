import { uuidv7 } from '../runtime/index.ts';
import { appendEvent, notifyKeys, ruleSubject, stateOf } from './change-event.ts';
import { CHANNEL, type ControlContext } from './context.ts';
import type { Queryable, Transaction } from './database.ts';
import { keyView } from './key-store.ts';
import type { KeySlot, KeyState, RevocationKind } from './records.ts';

/** Names a key, an agent or, with neither, a connection. */
export interface NewRevocation {
  readonly kind: RevocationKind;
  readonly reason: string;
  readonly keyId?: string;
  readonly agent?: string;
  readonly instance?: string | undefined;
  readonly connection?: string | undefined;
  readonly connectionId?: string | undefined;
  readonly authRule?: string;
  readonly slot?: KeySlot;
  readonly actor: string;
  /** Seconds until it is in force. */
  readonly afterS: number;
}

/** Writes a revocation and the hint to every node. @returns its id */
export const writeRevocation = async (
  context: ControlContext,
  tx: Transaction,
  revocation: NewRevocation,
): Promise<string> => {
  const id = uuidv7(context.clock);
  await tx.query(
    `insert into control.revocation (revocation_id, namespace, key_id, kind, reason, connection, connection_id,
       auth_rule, slot, actor, effective_at, agent, instance)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now() + make_interval(secs => $11), $12, $13)`,
    [
      id,
      context.namespace,
      revocation.keyId ?? null,
      revocation.kind,
      revocation.reason,
      revocation.connection ?? null,
      revocation.connectionId ?? null,
      revocation.authRule ?? null,
      revocation.slot ?? null,
      revocation.actor,
      revocation.afterS,
      revocation.agent ?? null,
      revocation.instance ?? null,
    ],
  );
  await tx.query('select pg_notify($1, $2)', [CHANNEL, `revocation ${id}`]);
  return id;
};

interface LiveKeyRow {
  readonly key_id: string;
  readonly slot: KeySlot;
  readonly state: KeyState;
  readonly auth_rule: string;
  readonly connection: string | null;
  readonly connection_id: string | null;
}

/**
 * Revokes what is not revoked among some keys, as one of the sorts of end, with an event each.
 * @returns the revocations written
 */
export const revokeAllKeys = async (
  context: ControlContext,
  tx: Transaction,
  of: { readonly keyId?: string; readonly authRuleId?: string; readonly connectionId?: string },
  kind: RevocationKind,
  actor: string,
  reason = '',
): Promise<readonly string[]> => {
  const rows = await tx.query<LiveKeyRow>(
    `select k.key_id, k.slot, k.state, r.name as auth_rule, c.name as connection, r.connection_id
       from control.key k
       join control.auth_rule r on r.id = k.auth_rule_id
       left join control.connection c on c.id = r.connection_id
      where r.namespace = $1 and k.state <> 'revoked'
        and (k.key_id = $2 or k.auth_rule_id = $3 or r.connection_id = $4)
      order by k.key_id for update of k`,
    [context.namespace, of.keyId ?? null, of.authRuleId ?? null, of.connectionId ?? null],
  );
  const written: string[] = [];
  for (const row of rows) {
    const rule = {
      name: row.auth_rule,
      connection: row.connection ?? undefined,
      connectionId: row.connection_id ?? undefined,
    };
    const id = await writeRevocation(context, tx, {
      ...rule,
      keyId: row.key_id,
      authRule: row.auth_rule,
      slot: row.slot,
      kind,
      reason,
      actor,
      afterS: 0,
    });
    written.push(id);
    const before = stateOf(keyView({ keyId: row.key_id, slot: row.slot, state: row.state }));
    const after = stateOf(keyView({ keyId: row.key_id, slot: row.slot, state: 'revoked' }));
    await appendEvent(tx, context.clock, {
      type: 'key.revoked',
      subject: { ...ruleSubject(context, actor, rule), key_id: row.key_id, key_slot: row.slot },
      data: { before, after, reason: reason === '' ? kind : reason, revocation_id: id },
    });
    await tx.query(`update control.key set state = 'revoked' where key_id = $1`, [row.key_id]);
  }
  for (const name of new Set(rows.map((row) => row.connection ?? undefined))) await notifyKeys(tx, name);
  return written;
};

/** A revocation as the management API lists it. */
export interface RevocationRecord {
  readonly revocationId: string;
  readonly keyId: string | undefined;
  readonly agent: string | undefined;
  readonly instance: string | undefined;
  readonly kind: RevocationKind;
  readonly reason: string;
  readonly connection: string | undefined;
  readonly authRule: string | undefined;
  readonly slot: KeySlot | undefined;
  readonly actor: string;
  readonly createdAt: Date;
  readonly effectiveAt: Date;
}

interface RevocationRow {
  readonly revocation_id: string;
  readonly key_id: string | null;
  readonly agent: string | null;
  readonly instance: string | null;
  readonly kind: RevocationKind;
  readonly reason: string;
  readonly connection: string | null;
  readonly auth_rule: string | null;
  readonly slot: KeySlot | null;
  readonly actor: string;
  readonly created_at: Date;
  readonly effective_at: Date;
}

const LIST_COLUMNS =
  'revocation_id, key_id, agent, instance, kind, reason, connection, auth_rule, slot, actor, created_at, effective_at';

const recordOf = (row: RevocationRow): RevocationRecord => ({
  revocationId: row.revocation_id,
  keyId: row.key_id ?? undefined,
  agent: row.agent ?? undefined,
  instance: row.instance ?? undefined,
  kind: row.kind,
  reason: row.reason,
  connection: row.connection ?? undefined,
  authRule: row.auth_rule ?? undefined,
  slot: row.slot ?? undefined,
  actor: row.actor,
  createdAt: row.created_at,
  effectiveAt: row.effective_at,
});

/** At most `limit` revocations older than the one named, newest first (ids rise with time). */
export const listRevocations = async (
  context: ControlContext,
  beforeId: string | undefined,
  limit: number,
): Promise<readonly RevocationRecord[]> => {
  const rows = await context.database.query<RevocationRow>(
    `select ${LIST_COLUMNS} from control.revocation
      where namespace = $1 and ($2::uuid is null or revocation_id < $2) order by revocation_id desc limit $3`,
    [context.namespace, beforeId ?? null, limit],
  );
  return rows.map(recordOf);
};

/** One revocation; undefined when there is none of that id. */
export const findRevocation = async (
  context: Pick<ControlContext, 'namespace'>,
  from: Queryable,
  id: string,
): Promise<RevocationRecord | undefined> => {
  const rows = await from.query<RevocationRow>(
    `select ${LIST_COLUMNS} from control.revocation where namespace = $1 and revocation_id = $2`,
    [context.namespace, id],
  );
  return rows[0] && recordOf(rows[0]);
};

/** The revocation of an agent's name or, when one is given, of that installation of it. */
export const revocationOfAgent = async (
  context: Pick<ControlContext, 'namespace'>,
  from: Queryable,
  name: string,
  instance: string | undefined,
): Promise<RevocationRecord | undefined> => {
  const rows = await from.query<RevocationRow>(
    `select ${LIST_COLUMNS} from control.revocation
      where namespace = $1 and agent = $2 and (instance is null or instance = $3)
      order by revocation_id desc limit 1`,
    [context.namespace, name, instance ?? null],
  );
  return rows[0] && recordOf(rows[0]);
};

/** The latest revocation of a key that is in force. */
export const revocationOfKey = async (
  context: Pick<ControlContext, 'namespace'>,
  from: Queryable,
  keyId: string,
): Promise<RevocationRecord | undefined> => {
  const rows = await from.query<RevocationRow>(
    `select ${LIST_COLUMNS} from control.revocation
      where namespace = $1 and key_id = $2 and effective_at <= now() order by revocation_id desc limit 1`,
    [context.namespace, keyId],
  );
  return rows[0] && recordOf(rows[0]);
};
