import type { ControlContext } from './context.ts';
import { type AckWaiters, awaitEnforcement, type EnforcementResult } from './enforcement-wait.ts';
import { findKey } from './key-store.ts';
import { keyUnknown } from './key-rotation.ts';
import type { LiveState } from './live-state.ts';
import { listNodes, MAX_PREVIEWED_NODES } from './node-registry.ts';
import type { KeyRecord } from './records.ts';
import { revocationOfKey, revokeAllKeys } from './revocation-store.ts';

/** What revoking a key did. */
export interface RevokeResult extends EnforcementResult {
  readonly key_id: string;
}

/**
 * Revokes a key on every node. Revoking a revoked key writes nothing and tells how it stands.
 * @throws AppError ERR_CONTROL_NOT_FOUND, ERR_CONTROL_UNAVAILABLE
 */
export const revokeKey = async (
  context: ControlContext,
  waiters: AckWaiters,
  keyId: string,
  reason: string,
  actor: string,
): Promise<RevokeResult> => {
  const startMs = context.clock.monotonicMs();
  const ids = await context.database.transaction(async (tx) => {
    const written = await revokeAllKeys(context, tx, { keyId }, 'key_revoked', actor, reason);
    if (written.length > 0) return written;
    const earlier = await revocationOfKey(context, tx, keyId);
    if (earlier === undefined) throw keyUnknown(keyId);
    return [earlier.revocationId];
  });
  return { key_id: keyId, ...(await awaitEnforcement(context, waiters, ids, startMs)) };
};

/** What revoking a key would cut, as this node sees it. @throws AppError ERR_CONTROL_NOT_FOUND */
export const previewRevocation = async (
  context: ControlContext,
  live: LiveState,
  keyId: string,
): Promise<RevokeResult & { readonly dry_run: true; readonly key: KeyRecord }> => {
  const startMs = context.clock.monotonicMs();
  const key = await findKey(context, context.database, keyId);
  if (key === undefined) throw keyUnknown(keyId);
  const nodes = await listNodes(context, '', MAX_PREVIEWED_NODES);
  const links = live.links().filter((link) => link.sender_key_id === keyId || link.listener_key_id === keyId);
  const streams = (await live.streams()).filter(
    (stream) =>
      stream.key_id === keyId ||
      links.some(
        (link) =>
          link.listener_key_id === keyId &&
          link.connection === stream.connection &&
          link.agent === stream.agent,
      ),
  );
  return {
    dry_run: true,
    key,
    key_id: keyId,
    nodes: nodes.filter((node) => node.state === 'live').length,
    links: links.length,
    streams: streams.length,
    ms: Math.round((context.clock.monotonicMs() - startMs) * 10) / 10,
    pending: [],
  };
};
