import { appendEvent, type ChangeEvent } from './change-event.ts';
import { CHANNEL, type ControlContext } from './context.ts';
import type { StoredRevocation } from './records.ts';

const subjectOf = (
  context: ControlContext,
  actor: string,
  row: StoredRevocation,
): ChangeEvent['subject'] => ({
  namespace: context.namespace,
  actor,
  ...(row.connection === null ? {} : { connection: row.connection }),
  ...(row.connection_id === null ? {} : { connection_id: row.connection_id }),
  ...(row.auth_rule === null ? {} : { auth_rule: row.auth_rule }),
  ...(row.key_id === null ? {} : { key_id: row.key_id }),
  ...(row.slot === null ? {} : { key_slot: row.slot }),
  ...(row.agent === null ? {} : { agent: row.agent }),
});

/** Revocations written back in one transaction. */
const BATCH = 500;

/**
 * Writes revocations back that the control database has lost, as after a restore from a backup, with an event each. A
 * key that is alive again in it dies again. Safe on several nodes at once: the first one wins.
 * @returns how many were written by this call
 */
export const republishRevocations = async (
  context: ControlContext,
  node: string,
  lost: readonly StoredRevocation[],
): Promise<number> => {
  let written = 0;
  for (let from = 0; from < lost.length; from += BATCH) {
    const batch = lost.slice(from, from + BATCH);
    await context.database.transaction(async (tx) => {
      for (const row of batch) {
        const inserted = await tx.query(
          `insert into control.revocation (revocation_id, namespace, key_id, kind, reason, connection, connection_id,
             auth_rule, slot, actor, created_at, effective_at, agent, instance)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
           on conflict (revocation_id) do nothing returning revocation_id`,
          [
            row.revocation_id,
            context.namespace,
            row.key_id,
            row.kind,
            row.reason,
            row.connection,
            row.connection_id,
            row.auth_rule,
            row.slot,
            row.actor,
            row.created_at,
            row.effective_at,
            row.agent,
            row.instance,
          ],
        );
        if (inserted.length === 0) continue;
        written += 1;
        await tx.query(
          `update control.key set state = 'revoked' where key_id = $1 and $2::timestamptz <= now()`,
          [row.key_id, row.effective_at],
        );
        await appendEvent(tx, context.clock, {
          type: 'admin.action',
          subject: subjectOf(context, `node/${node}`, row),
          data: {
            action: 'revocation.republished',
            detail: {
              revocation_id: row.revocation_id,
              kind: row.kind,
              revoked_by: row.actor,
              ...(row.instance === null ? {} : { instance: row.instance }),
            },
            reason: 'the control database had lost it',
          },
        });
        await tx.query('select pg_notify($1, $2)', [CHANNEL, `revocation ${row.revocation_id}`]);
      }
    });
  }
  return written;
};
