import { AppError, foreignCodeOf, uuidv7 } from '../runtime/index.ts';
import { createAuthRule } from './auth-rule-store.ts';
import { appendEvent, stateOf } from './change-event.ts';
import { CHANNEL, type ControlContext } from './context.ts';
import { type Queryable, type Transaction, UNIQUE_VIOLATION } from './database.ts';
import { digestOf } from './digest.ts';
import type { ControlErrorCode } from './errors.ts';
import type { AuthRuleRecord, ConnectionRecord, DisclosedKey, Target } from './records.ts';
import { revokeAllKeys, writeRevocation } from './revocation-store.ts';

interface ConnectionRow {
  readonly id: string;
  readonly name: string;
  readonly target_host: string;
  readonly target_port: number;
  readonly labels: Record<string, string>;
  readonly version: number;
  readonly created_at: Date;
  readonly updated_at: Date;
}

const COLUMNS = 'id, name, target_host, target_port, labels, version, created_at, updated_at';

const recordOf = (row: ConnectionRow): ConnectionRecord => ({
  id: row.id,
  name: row.name,
  target: { host: row.target_host, port: row.target_port },
  labels: row.labels,
  version: row.version,
  createdAt: row.created_at,
  updatedAt: row.updated_at,
});

/** What digests of a connection are made over. */
const viewOf = (record: ConnectionRecord): object => ({
  id: record.id,
  name: record.name,
  target: record.target,
  labels: record.labels,
  version: record.version,
});

const subjectOf = (context: ControlContext, actor: string, record: ConnectionRecord) => ({
  namespace: context.namespace,
  actor,
  connection: record.name,
  connection_id: record.id,
  target_host: record.target.host,
  target_port: record.target.port,
});

/** @throws AppError ERR_CONTROL_NOT_FOUND */
export const connectionUnknown = (name: string): AppError<ControlErrorCode> =>
  new AppError('ERR_CONTROL_NOT_FOUND', `no connection ${JSON.stringify(name)}`);

export const findConnection = async (
  context: Pick<ControlContext, 'namespace'>,
  from: Queryable,
  name: string,
  lock: 'for update' | '' = '',
): Promise<ConnectionRecord | undefined> => {
  const rows = await from.query<ConnectionRow>(
    `select ${COLUMNS} from control.connection where namespace = $1 and name = $2 ${lock}`,
    [context.namespace, name],
  );
  return rows[0] && recordOf(rows[0]);
};

/** At most `limit` connections whose name is above `after`, by name. */
export const listConnections = async (
  context: ControlContext,
  after: string,
  limit: number,
): Promise<readonly ConnectionRecord[]> => {
  const rows = await context.database.query<ConnectionRow>(
    `select ${COLUMNS} from control.connection
      where namespace = $1 and name collate "C" > $2 order by name collate "C" limit $3`,
    [context.namespace, after, limit],
  );
  return rows.map(recordOf);
};

export interface NewConnection {
  readonly name: string;
  readonly target: Target;
  readonly labels: Readonly<Record<string, string>>;
}

/** A connection as it was made: its two default auth-rules and their four keys, shown this once. */
export interface CreatedConnection {
  readonly connection: ConnectionRecord;
  readonly rules: readonly AuthRuleRecord[];
  readonly keys: readonly DisclosedKey[];
}

/** Makes a connection with `defaultListener` and `defaultSender`. @throws AppError ERR_CONTROL_EXISTS */
export const createConnection = async (
  context: ControlContext,
  wanted: NewConnection,
  actor: string,
): Promise<CreatedConnection> =>
  context.database.transaction(async (tx) => {
    const row = await insertConnection(context, tx, wanted);
    const connection = recordOf(row);
    const after = stateOf(viewOf(connection));
    const subject = subjectOf(context, actor, connection);
    await appendEvent(tx, context.clock, { type: 'connection.created', subject, data: { after } });
    const rules: AuthRuleRecord[] = [];
    const keys: DisclosedKey[] = [];
    const defaults = [
      { name: 'defaultListener', claims: ['Listen'] },
      { name: 'defaultSender', claims: ['Send'] },
    ] as const;
    for (const rule of defaults) {
      const created = await createAuthRule(context, tx, { ...rule, connection }, actor);
      rules.push(created.rule);
      keys.push(...created.keys);
    }
    await tx.query('select pg_notify($1, $2)', [CHANNEL, 'connection']);
    return { connection, rules, keys };
  });

const insertConnection = async (
  context: ControlContext,
  tx: Transaction,
  wanted: NewConnection,
): Promise<ConnectionRow> => {
  try {
    const rows = await tx.query<ConnectionRow>(
      `insert into control.connection (id, namespace, name, target_host, target_port, labels)
       values ($1, $2, $3, $4, $5, $6) returning ${COLUMNS}`,
      [
        uuidv7(context.clock),
        context.namespace,
        wanted.name,
        wanted.target.host,
        wanted.target.port,
        JSON.stringify(wanted.labels),
      ],
    );
    const row = rows[0];
    if (row !== undefined) return row;
  } catch (error) {
    if (foreignCodeOf(error) !== UNIQUE_VIOLATION) throw error;
  }
  throw new AppError<ControlErrorCode>(
    'ERR_CONTROL_EXISTS',
    `connection ${JSON.stringify(wanted.name)} exists already`,
  );
};

export interface ConnectionUpdate {
  readonly target?: Target | undefined;
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

/** @throws AppError ERR_CONTROL_CONFLICT when the version is not the one expected. */
const checkVersion = (record: ConnectionRecord, expected: number | undefined): void => {
  if (expected === undefined || record.version === expected) return;
  throw new AppError<ControlErrorCode>(
    'ERR_CONTROL_CONFLICT',
    `connection ${JSON.stringify(record.name)} is at version ${record.version}, not ${expected}`,
  );
};

/**
 * Changes target or labels; nothing given changes nothing.
 * @throws AppError ERR_CONTROL_NOT_FOUND, ERR_CONTROL_CONFLICT
 */
export const updateConnection = async (
  context: ControlContext,
  name: string,
  update: ConnectionUpdate,
  expectedVersion: number | undefined,
  actor: string,
): Promise<ConnectionRecord> =>
  context.database.transaction(async (tx) => {
    const before = await findConnection(context, tx, name, 'for update');
    if (before === undefined) throw connectionUnknown(name);
    checkVersion(before, expectedVersion);
    const target = update.target ?? before.target;
    const labels = update.labels ?? before.labels;
    if (digestOf({ target, labels }) === digestOf({ target: before.target, labels: before.labels }))
      return before;
    const rows = await tx.query<ConnectionRow>(
      `update control.connection set target_host = $2, target_port = $3, labels = $4, version = version + 1,
       updated_at = now() where id = $1 returning ${COLUMNS}`,
      [before.id, target.host, target.port, JSON.stringify(labels)],
    );
    const row = rows[0];
    if (row === undefined) throw connectionUnknown(name);
    const after = recordOf(row);
    await appendEvent(tx, context.clock, {
      type: 'connection.changed',
      subject: subjectOf(context, actor, after),
      data: { before: stateOf(viewOf(before)), after: stateOf(viewOf(after)) },
    });
    await tx.query('select pg_notify($1, $2)', [CHANNEL, 'connection']);
    return after;
  });

/** The revocations that a removal wrote. */
export interface Removal {
  readonly revocations: readonly string[];
  readonly revokedKeys: number;
}

/**
 * Deletes a connection with its auth-rules. Each of their keys is revoked as `connection_removed`, and so is the
 * connection itself: keys of the namespace carry links of it too.
 * @throws AppError ERR_CONTROL_NOT_FOUND, ERR_CONTROL_CONFLICT
 */
export const deleteConnection = async (
  context: ControlContext,
  name: string,
  expectedVersion: number | undefined,
  actor: string,
): Promise<Removal> =>
  context.database.transaction(async (tx) => {
    const before = await findConnection(context, tx, name, 'for update');
    if (before === undefined) throw connectionUnknown(name);
    checkVersion(before, expectedVersion);
    const keys = await revokeAllKeys(context, tx, { connectionId: before.id }, 'connection_removed', actor);
    const whole = await writeRevocation(context, tx, {
      kind: 'connection_removed',
      reason: '',
      connection: before.name,
      connectionId: before.id,
      actor,
      afterS: 0,
    });
    await tx.query('delete from control.connection where id = $1', [before.id]);
    await appendEvent(tx, context.clock, {
      type: 'connection.deleted',
      subject: subjectOf(context, actor, before),
      data: { before: stateOf(viewOf(before)) },
    });
    await tx.query('select pg_notify($1, $2)', [CHANNEL, 'connection']);
    return { revocations: [...keys, whole], revokedKeys: keys.length };
  });
