import { sleep } from '../runtime/index.ts';
import type { ControlContext } from './context.ts';
import { findKey } from './key-store.ts';
import { keyUnknown } from './key-rotation.ts';
import type { LiveState } from './live-state.ts';
import { listNodes } from './node-registry.ts';
import type { KeyRecord } from './records.ts';
import { type RevocationProgress, revocationProgress } from './revocation-ack.ts';
import { revocationOfKey, revokeAllKeys } from './revocation-store.ts';

/** Most nodes that the preview of a revocation counts. */
const MAX_NODES = 1_000;

/** How long a revoking call waits for the live nodes. */
export const WAIT_FOR_NODES_MS = 2_000;
/** Progress is read again this often in case the notification of an acknowledgement was lost. */
const LOOK_AGAIN_MS = 150;

/** What a revocation did; interfaces.md fixes the fields. */
export interface RevokeResult {
  readonly key_id: string;
  /** Nodes that have enforced it. */
  readonly nodes: number;
  readonly links: number;
  /** As agents report; null when none answered. */
  readonly streams: number | null;
  /** From the request to the last acknowledgement, or to giving up waiting. */
  readonly ms: number;
  readonly pending: readonly {
    readonly kind: 'node' | 'agent';
    readonly name: string;
    readonly since: string;
  }[];
}

/** Lets callers wait for the acknowledgements of a revocation. */
export class AckWaiters {
  readonly #waiting = new Map<string, Set<() => void>>();

  /** An acknowledgement of this revocation was heard of. */
  wake(revocationId: string): void {
    for (const call of this.#waiting.get(revocationId) ?? []) call();
  }

  /** Resolves at the next acknowledgement of one of these, or after `timeoutMs`. */
  async next(context: ControlContext, revocationIds: readonly string[], timeoutMs: number): Promise<void> {
    const abort = new AbortController();
    const wake = (): void => abort.abort(new Error('woken'));
    for (const id of revocationIds) {
      const calls = this.#waiting.get(id) ?? new Set();
      this.#waiting.set(id, calls.add(wake));
    }
    try {
      await sleep(context.clock, timeoutMs, abort.signal);
    } catch (error) {
      if (!abort.signal.aborted) throw error;
    } finally {
      for (const id of revocationIds) {
        const calls = this.#waiting.get(id);
        calls?.delete(wake);
        if (calls?.size === 0) this.#waiting.delete(id);
      }
    }
  }
}

const merged = (all: readonly RevocationProgress[]): RevocationProgress => {
  const known = all.filter((one) => one.streams !== null);
  const pending = new Map(
    all.flatMap((one) => one.pending).map((one) => [`${one.kind} ${one.name}`, one] as const),
  );
  return {
    nodes: Math.max(0, ...all.map((one) => one.nodes)),
    links: all.reduce((sum, one) => sum + one.links, 0),
    streams: known.length === 0 ? null : known.reduce((sum, one) => sum + (one.streams ?? 0), 0),
    pending: [...pending.values()],
    pendingAllSilent: all.every((one) => one.pendingAllSilent),
  };
};

/** Waits until nobody live is pending, at most 2 s, and tells how things stand. */
export const awaitEnforcement = async (
  context: ControlContext,
  waiters: AckWaiters,
  keyId: string,
  revocationIds: readonly string[],
  startMs: number,
): Promise<RevokeResult> => {
  const { clock, database } = context;
  for (;;) {
    const all: RevocationProgress[] = [];
    // Registered before the read: an acknowledgement between the two wakes at once.
    const next = waiters.next(context, revocationIds, LOOK_AGAIN_MS);
    for (const id of revocationIds) all.push(await revocationProgress(database, id));
    const progress = merged(all);
    const ms = clock.monotonicMs() - startMs;
    if (progress.pending.length === 0 || progress.pendingAllSilent || ms >= WAIT_FOR_NODES_MS) {
      const pending = progress.pending.map((one) => ({ ...one, since: one.since.toISOString() }));
      return {
        key_id: keyId,
        nodes: progress.nodes,
        links: progress.links,
        streams: progress.streams,
        ms: Math.round(ms * 10) / 10,
        pending,
      };
    }
    await next;
  }
};

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
  return awaitEnforcement(context, waiters, keyId, ids, startMs);
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
  const nodes = await listNodes(context, '', MAX_NODES);
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
