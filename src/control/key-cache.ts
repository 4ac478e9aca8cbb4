import { isConnectionName } from '../identity/index.ts';
import { findConnection } from './connection-store.ts';
import type { ControlContext } from './context.ts';
import { type ScopeKey, scopeKeys } from './key-store.ts';
import type { ConnectionRecord } from './records.ts';

/** Most connections whose keys are kept decrypted. */
const MAX_ENTRIES = 10_000;
/** A load that was overtaken by changes is repeated at most so often. */
const MAX_RELOADS = 5;

/** What admission needs to know of a connection. */
export interface ScopeEntry {
  /** Undefined: there is no such connection. */
  readonly connection: ConnectionRecord | undefined;
  readonly connectionKeys: readonly ScopeKey[];
  readonly namespaceKeys: readonly ScopeKey[];
}

/** A signature that no kept key made reads the keys again, at most this often per connection. */
const REFRESH_AFTER_MS = 1_000;

interface Cached {
  readonly loadedMs: number;
  readonly entry: Promise<ScopeEntry>;
  stale: boolean;
}

/**
 * Decrypted keys by connection. Invalidated by notifications and by every full read; an entry is served stale
 * only when Postgres does not answer, and the caller's fence bounds for how long.
 */
export class KeyCache {
  readonly #context: ControlContext;
  readonly #cached = new Map<string, Cached>();
  #generation = 0;

  constructor(context: ControlContext) {
    this.#context = context;
  }

  /** Forgets a connection, or everything. */
  invalidate(connection: string | undefined): void {
    this.#generation += 1;
    for (const [name, cached] of this.#cached)
      if (connection === undefined || name === connection) cached.stale = true;
  }

  /** @throws AppError ERR_CONTROL_UNAVAILABLE when Postgres does not answer and nothing is kept. */
  async get(connection: string): Promise<ScopeEntry> {
    const cached = this.#cached.get(connection);
    if (cached !== undefined && !cached.stale) return cached.entry;
    const fresh: Cached = {
      loadedMs: this.#context.clock.monotonicMs(),
      stale: false,
      entry: this.#reload(connection, cached, () => (fresh.stale = true)),
    };
    this.#put(connection, fresh);
    try {
      const entry = await fresh.entry;
      // Names that do not exist are not kept: anybody can ask for any number of them.
      if (entry.connection === undefined) this.#drop(connection, fresh);
      return entry;
    } catch (error) {
      this.#drop(connection, fresh);
      throw error;
    }
  }

  /**
   * The keys anew for a signature that no kept key made: a key made a moment ago on another node may not have
   * been told of yet. Undefined when what is kept is newer than a second.
   */
  async refreshed(connection: string): Promise<ScopeEntry | undefined> {
    const cached = this.#cached.get(connection);
    if (cached === undefined || this.#context.clock.monotonicMs() - cached.loadedMs < REFRESH_AFTER_MS)
      return undefined;
    cached.stale = true;
    return this.get(connection);
  }

  /** Loads; without an answer the last entry goes on, marked so that the next call tries again. */
  async #reload(connection: string, last: Cached | undefined, onStale: () => void): Promise<ScopeEntry> {
    try {
      return await this.#load(connection);
    } catch (error) {
      if (last === undefined) throw error;
      onStale();
      return last.entry;
    }
  }

  #drop(connection: string, cached: Cached): void {
    if (this.#cached.get(connection) === cached) this.#cached.delete(connection);
  }

  #put(connection: string, cached: Cached): void {
    this.#cached.delete(connection);
    this.#cached.set(connection, cached);
    if (this.#cached.size <= MAX_ENTRIES) return;
    const oldest = this.#cached.keys().next();
    if (oldest.done !== true) this.#cached.delete(oldest.value);
  }

  async #load(name: string): Promise<ScopeEntry> {
    for (let attempt = 1; ; attempt += 1) {
      const generation = this.#generation;
      // Text that is no name is not shown to Postgres, which would refuse some of it with an error.
      const connection = isConnectionName(name)
        ? await findConnection(this.#context, this.#context.database, name)
        : undefined;
      const [connectionKeys, namespaceKeys] = await Promise.all([
        connection === undefined ? [] : scopeKeys(this.#context, connection.id),
        scopeKeys(this.#context, undefined),
      ]);
      // A change that was hinted at during the read may or may not be in it: read again.
      if (generation === this.#generation || attempt >= MAX_RELOADS)
        return { connection, connectionKeys, namespaceKeys };
    }
  }
}
