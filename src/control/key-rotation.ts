import { AppError } from '../runtime/index.ts';
import { authRuleUnknown, checkAuthRuleVersion, findAuthRule } from './auth-rule-store.ts';
import { appendEvent, notifyKeys, ruleSubject } from './change-event.ts';
import type { ControlContext } from './context.ts';
import type { ControlErrorCode } from './errors.ts';
import { createKey, disclosedKey, findKey, keysOfRule } from './key-store.ts';
import type { DisclosedKey, KeySlot } from './records.ts';
import { writeRevocation } from './revocation-store.ts';

/** Longest time that a replaced key may go on, seconds (90 days). */
export const MAX_RETIRE_AFTER_S = 90 * 24 * 60 * 60;

export interface Rotation {
  /** Undefined: an auth-rule of the namespace. */
  readonly connection: string | undefined;
  readonly authRule: string;
  readonly slot: KeySlot;
  /** How long the old key goes on, seconds; 0: not at all. */
  readonly retireAfterS: number;
  /** Of the auth-rule; undefined: whichever it has. */
  readonly expectedVersion: number | undefined;
}

/** What a rotation made and ended. */
export interface Rotated {
  readonly key: DisclosedKey;
  /** The key that was replaced; absent when the slot's key had been revoked. */
  readonly replaced:
    | { readonly keyId: string; readonly retireAt: Date; readonly revocationId: string }
    | undefined;
  /** Of the auth-rule, after it. */
  readonly version: number;
}

/**
 * Puts a new key into a slot. The old one ends with `key_rotated`, at once or at its time; what was retiring
 * in the slot already keeps its own time.
 * @throws AppError ERR_CONTROL_NOT_FOUND, ERR_CONTROL_CONFLICT
 */
export const rotateKey = async (
  context: ControlContext,
  rotation: Rotation,
  actor: string,
): Promise<Rotated> =>
  context.database.transaction(async (tx) => {
    const rule = await findAuthRule(context, tx, rotation.connection, rotation.authRule, 'for update of r');
    if (rule === undefined) throw authRuleUnknown(rotation.connection, rotation.authRule);
    checkAuthRuleVersion(rule, rotation.expectedVersion);
    await tx.query('update control.auth_rule set version = version + 1 where id = $1', [rule.id]);
    const active = (await keysOfRule(tx, rule.id)).find(
      (key) => key.slot === rotation.slot && key.state === 'active',
    );
    let replaced: Rotated['replaced'];
    // A revocation may have come between the reading and this: a revoked key never becomes a retiring one.
    const ended = await tx.query<{ retire_at: Date }>(
      `update control.key set state = case when $2 > 0 then 'retiring' else 'revoked' end,
         retire_at = now() + make_interval(secs => $2) where key_id = $1 and state = 'active' returning retire_at`,
      [active?.keyId ?? '', rotation.retireAfterS],
    );
    const old = ended.length > 0 ? active : undefined;
    if (old !== undefined) {
      const retireAt = ended[0]?.retire_at ?? new Date(context.clock.nowMs());
      const revocationId = await writeRevocation(context, tx, {
        keyId: old.keyId,
        kind: 'key_rotated',
        reason: '',
        connection: rule.connection,
        connectionId: rule.connectionId,
        authRule: rule.name,
        slot: old.slot,
        actor,
        afterS: rotation.retireAfterS,
      });
      replaced = { keyId: old.keyId, retireAt, revocationId };
    }
    const key = await createKey(context, tx, rule, rotation.slot, 'key.rotated', actor, old);
    await notifyKeys(tx, rule.connection);
    return { key, replaced, version: rule.version + 1 };
  });

/** @throws AppError ERR_CONTROL_NOT_FOUND */
export const keyUnknown = (keyId: string): AppError<ControlErrorCode> =>
  new AppError('ERR_CONTROL_NOT_FOUND', `no key ${keyId}`);

/**
 * Shows a key's text; the event is committed before the text leaves.
 * @throws AppError ERR_CONTROL_NOT_FOUND; ERR_CONTROL_CONFLICT for a revoked key
 */
export const discloseKey = async (
  context: ControlContext,
  keyId: string,
  reason: string,
  actor: string,
): Promise<DisclosedKey> =>
  context.database.transaction(async (tx) => {
    const key = await findKey(context, tx, keyId);
    if (key === undefined) throw keyUnknown(keyId);
    if (key.state === 'revoked')
      throw new AppError<ControlErrorCode>(
        'ERR_CONTROL_CONFLICT',
        `key ${keyId} is revoked; rotate its slot`,
      );
    const text = context.keyring.open(key, key.keyId);
    await appendEvent(tx, context.clock, {
      type: 'key.disclosed',
      subject: {
        ...ruleSubject(context, actor, { ...key, name: key.authRule }),
        key_id: key.keyId,
        key_slot: key.slot,
      },
      data: reason === '' ? {} : { reason },
    });
    return disclosedKey(context, key, text);
  });
