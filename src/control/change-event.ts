import type { AuditEventInput } from '../audit/index.ts';
import { type Clock, uuidv7 } from '../runtime/index.ts';
import { CHANNEL, type ControlContext } from './context.ts';
import type { Transaction } from './database.ts';
import { digestOf } from './digest.ts';
import type { StoredAuthRule } from './records.ts';

export type ChangeEventType =
  | 'connection.created'
  | 'connection.changed'
  | 'connection.deleted'
  | 'auth_rule.changed'
  | 'key.created'
  | 'key.rotated'
  | 'key.disclosed'
  | 'key.revoked'
  | 'identity.revoked'
  | 'admin.action';

/** An audit event of a control-plane change, as it waits in the outbox. */
export type ChangeEvent = Extract<AuditEventInput, { readonly type: ChangeEventType }>;

/** A state as an event holds it: what the management API showed, and the digest of that. */
export const stateOf = (view: object): object => ({ ...view, sha256: digestOf(view) });

/** Writes an event into the outbox, in the transaction of the change that it tells of. */
export const appendEvent = async (tx: Transaction, clock: Clock, event: ChangeEvent): Promise<void> => {
  const full: ChangeEvent = { ...event, at_ms: Math.floor(clock.nowMs()) };
  await tx.query('insert into control.outbox (event_id, event) values ($1, $2)', [
    uuidv7(clock),
    JSON.stringify(full),
  ]);
  await tx.query('select pg_notify($1, $2)', [CHANNEL, 'outbox']);
};

/** The subject of an event about an auth-rule or one of its keys. */
export const ruleSubject = (
  context: Pick<ControlContext, 'namespace'>,
  actor: string,
  rule: Pick<StoredAuthRule, 'name' | 'connection' | 'connectionId'>,
): ChangeEvent['subject'] => ({
  namespace: context.namespace,
  actor,
  auth_rule: rule.name,
  ...(rule.connection === undefined ? {} : { connection: rule.connection }),
  ...(rule.connectionId === undefined ? {} : { connection_id: rule.connectionId }),
});

/** Hints to every node that the keys of a scope changed; undefined: the namespace's. */
export const notifyKeys = async (tx: Transaction, connection: string | undefined): Promise<void> => {
  await tx.query('select pg_notify($1, $2)', [CHANNEL, `keys ${connection ?? '*'}`]);
};
