import {
  type Clock,
  type ErrorCode,
  isAppError,
  type Logger,
  messageOf,
  type Timer,
} from '../../runtime/index.ts';
import { FileWatch } from '../bundle/watch.ts';
import type { PolicyErrorCode } from '../errors.ts';
import { type ManagedConfig, parseManaged } from './managed-config.ts';
import { type ManagedLocation, readManagedFile, requireSafePlace } from './managed-file.ts';
import { ManagedSettings } from './managed-settings.ts';

/**
 * A file that changed by itself must read the same again after this, so that the half that a slow writer has written is
 * not taken for the whole. The owner's own word (`reload`) is taken at once.
 */
export const MANAGED_CONFIRM_MS = 500;

/** A managed.yaml that is not taken. */
export interface RefusedSettings {
  readonly atMs: number;
  readonly code: ErrorCode;
  readonly message: string;
}

export interface ManagedChange {
  readonly before: ManagedSettings;
  readonly after: ManagedSettings;
}

export interface ManagedStatus {
  readonly path: string;
  /** `absent`: nothing is restricted. `refused`: nothing is allowed. */
  readonly state: ManagedSettings['kind'];
  /** Wall clock: since when that holds in this process; undefined when absent. */
  readonly sinceMs: number | undefined;
  readonly settings: Readonly<Record<string, unknown>> | undefined;
  /** The file as it is now is not taken; what `state` says holds in spite of it. */
  readonly refused: RefusedSettings | undefined;
}

export interface ManagedHostOptions {
  readonly location: ManagedLocation;
  readonly clock: Clock;
  readonly logger: Logger;
}

type Seen =
  | { readonly kind: 'absent' }
  | { readonly kind: 'settings'; readonly config: ManagedConfig; readonly sha256: string }
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly message: string };

const keyOf = (seen: Seen): string => {
  if (seen.kind === 'absent') return 'absent';
  return seen.kind === 'settings' ? `settings ${seen.sha256}` : `refused ${seen.message}`;
};

/**
 * Keeps the managed settings of this machine in force. The file is watched. One that is refused changes nothing as long
 * as there are settings from before it; where there are none, nothing at all is allowed until it is put right.
 */
export class ManagedHost {
  readonly #options: ManagedHostOptions;
  readonly #watch: FileWatch;
  readonly #changed = new Set<(change: ManagedChange) => void>();
  readonly #refusedListeners = new Set<(refused: RefusedSettings) => void>();
  #settings = ManagedSettings.absent;
  #sinceMs: number | undefined;
  #refused: RefusedSettings | undefined;
  #takenKey = 'absent';
  #generation = 0;
  #confirmation: Timer | undefined;
  #loading: Promise<void> = Promise.resolve();
  #closed = false;

  private constructor(options: ManagedHostOptions) {
    this.#options = options;
    const { location, clock } = options;
    this.#watch = new FileWatch([location.path], clock, () => void this.#enqueue(() => this.#sight()));
  }

  /** Reads and watches the file. Never rejects: what cannot be taken is `refused`. */
  static async open(options: ManagedHostOptions): Promise<ManagedHost> {
    const host = new ManagedHost(options);
    await host.#watch.remember();
    await host.reload();
    return host;
  }

  /** What holds now. */
  get settings(): ManagedSettings {
    return this.#settings;
  }

  /** Rises whenever what holds changes; callers compare it in the tick in which they register what was decided. */
  get generation(): number {
    return this.#generation;
  }

  status(): ManagedStatus {
    return {
      path: this.#options.location.path,
      state: this.#settings.kind,
      sinceMs: this.#sinceMs,
      settings: this.#settings.summary(),
      refused: this.#refused,
    };
  }

  /** Calls back in the tick of every change; returns the way to stop. */
  onChanged(call: (change: ManagedChange) => void): () => void {
    this.#changed.add(call);
    return () => void this.#changed.delete(call);
  }

  onRefused(call: (refused: RefusedSettings) => void): () => void {
    this.#refusedListeners.add(call);
    return () => void this.#refusedListeners.delete(call);
  }

  /** Reads the file now; resolves when its content is in force or refused. Never rejects. */
  reload(): Promise<void> {
    return this.#enqueue(async () => this.#take(await this.#read()));
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watch.close();
    this.#confirmation?.cancel();
    await this.#loading;
  }

  #enqueue(step: () => Promise<void>): Promise<void> {
    this.#loading = this.#loading.then(() => (this.#closed ? undefined : step()));
    return this.#loading;
  }

  async #read(): Promise<Seen> {
    const { location } = this.#options;
    try {
      const bytes = await readManagedFile(location);
      if (bytes !== undefined) {
        const config = parseManaged(bytes.text, location.path);
        return { kind: 'settings', config, sha256: bytes.sha256 };
      }
      // Settings that hold end when their owner takes the file away, and not when somebody else can.
      if (this.#settings.kind !== 'absent') await requireSafePlace(location);
      return { kind: 'absent' };
    } catch (thrown) {
      const code = isAppError(thrown) ? thrown.code : ('ERR_POLICY_MANAGED' satisfies PolicyErrorCode);
      return { kind: 'refused', code, message: messageOf(thrown) };
    }
  }

  /** The file changed by itself: it is taken when it still says the same a moment later. */
  async #sight(): Promise<void> {
    const key = keyOf(await this.#read());
    this.#confirmation?.cancel();
    if (key === this.#takenKey || this.#closed) return;
    this.#confirmation = this.#options.clock
      .after(MANAGED_CONFIRM_MS, () => void this.#enqueue(() => this.#confirm(key)))
      .unref();
  }

  async #confirm(key: string): Promise<void> {
    const seen = await this.#read();
    if (keyOf(seen) === key) this.#take(seen);
    else await this.#sight();
  }

  #take(seen: Seen): void {
    this.#confirmation?.cancel();
    if (this.#closed || keyOf(seen) === this.#takenKey) return;
    this.#takenKey = keyOf(seen);
    if (seen.kind === 'refused') {
      this.#refuse(seen);
      return;
    }
    this.#refused = undefined;
    this.#put(
      seen.kind === 'absent' ? ManagedSettings.absent : ManagedSettings.inForce(seen.config, seen.sha256),
    );
  }

  #refuse({ code, message }: Seen & { kind: 'refused' }): void {
    const { clock, logger } = this.#options;
    this.#refused = { atMs: clock.nowMs(), code, message };
    const holds = this.#settings.kind === 'in_force' ? 'the settings before stay' : 'nothing is allowed';
    logger.error({ code, cause: message }, `managed settings refused; ${holds}`);
    for (const call of this.#refusedListeners) call(this.#refused);
    if (this.#settings.kind === 'absent') this.#put(ManagedSettings.refused);
  }

  #put(after: ManagedSettings): void {
    const before = this.#settings;
    if (before.kind === after.kind && before.sha256 === after.sha256) return;
    // From here on every decision is under the new settings, and `generation` tells older ones apart.
    this.#generation += 1;
    this.#settings = after;
    this.#sinceMs = after.kind === 'absent' ? undefined : this.#options.clock.nowMs();
    this.#options.logger.info(
      { before: before.sha256, after: after.sha256, state: after.kind },
      'managed settings changed',
    );
    for (const call of this.#changed) call({ before, after });
  }
}
