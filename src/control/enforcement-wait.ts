import { sleep } from '../runtime/index.ts';
import type { ControlContext } from './context.ts';
import { type RevocationProgress, revocationProgress } from './revocation-ack.ts';

/** How long a revoking call waits for the live nodes. */
export const WAIT_FOR_NODES_MS = 2_000;
/** Progress is read again this often in case the notification of an acknowledgement was lost. */
const LOOK_AGAIN_MS = 150;

/** What a revocation did; interfaces.md fixes the fields. */
export interface EnforcementResult {
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
    // A node has enforced it when it has enforced every part of it.
    nodes: all.length === 0 ? 0 : Math.min(...all.map((one) => one.nodes)),
    links: all.reduce((sum, one) => sum + one.links, 0),
    streams: known.length === 0 ? null : known.reduce((sum, one) => sum + (one.streams ?? 0), 0),
    pending: [...pending.values()],
    pendingAllSilent: all.every((one) => one.pendingAllSilent),
  };
};

/** Where some revocations stand together; `isOver` when waiting for more is of no use. */
const readProgress = async (
  { database }: ControlContext,
  revocationIds: readonly string[],
): Promise<{ readonly progress: Omit<EnforcementResult, 'ms'>; readonly isOver: boolean }> => {
  const all: RevocationProgress[] = [];
  for (const id of revocationIds) all.push(await revocationProgress(database, id));
  const { nodes, links, streams, pending, pendingAllSilent } = merged(all);
  const since = pending.map((one) => ({ ...one, since: one.since.toISOString() }));
  return {
    progress: { nodes, links, streams, pending: since },
    isOver: pending.length === 0 || pendingAllSilent,
  };
};

/** Where some revocations stand together now. */
export const progressOf = async (
  context: ControlContext,
  revocationIds: readonly string[],
): Promise<Omit<EnforcementResult, 'ms'>> => {
  const { progress } = await readProgress(context, revocationIds);
  return progress;
};

/** Waits until nobody live is pending on any of these, at most 2 s, and tells how things stand. */
export const awaitEnforcement = async (
  context: ControlContext,
  waiters: AckWaiters,
  revocationIds: readonly string[],
  startMs: number,
): Promise<EnforcementResult> => {
  const { clock } = context;
  for (;;) {
    // Registered before the read: an acknowledgement between the two wakes at once.
    const next = waiters.next(context, revocationIds, LOOK_AGAIN_MS);
    const { isOver, progress } = await readProgress(context, revocationIds);
    const ms = clock.monotonicMs() - startMs;
    if (isOver || ms >= WAIT_FOR_NODES_MS) return { ...progress, ms: Math.round(ms * 10) / 10 };
    await next;
  }
};
