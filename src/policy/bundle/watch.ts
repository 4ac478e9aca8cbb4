import { type FSWatcher, watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Clock, Timer } from '../../runtime/index.ts';

/** Writers are given this long to finish before a changed file is read. */
const SETTLE_MS = 50;
/** Network file systems tell nobody of changes: the file is also looked at this often. */
const LOOK_PERIOD_MS = 5_000;

const fingerprint = async (file: string): Promise<string> => {
  try {
    // The change time moves with the owner and the mode as well.
    const { ctimeMs, mtimeMs, size, ino } = await stat(file);
    return [ctimeMs, mtimeMs, size, ino].join(' ');
  } catch {
    return 'absent';
  }
};

/** The directory itself, or the nearest above it that exists, and which one it is. */
const nearest = async (
  directory: string,
): Promise<{ readonly at: string; readonly ino: number } | undefined> => {
  for (let at = directory; ; at = dirname(at)) {
    try {
      const { ino } = await stat(at);
      return { at, ino };
    } catch {
      if (dirname(at) === at) return undefined;
    }
  }
};

interface Listening {
  readonly at: string;
  readonly ino: number;
  readonly watcher: FSWatcher;
}

/** Calls back when any of some files was replaced, written, created or removed. */
export class FileWatch {
  readonly #files: readonly string[];
  readonly #onChange: () => void;
  readonly #clock: Clock;
  /** By the directory that is meant; one that does not exist yet is waited for in the nearest that does. */
  readonly #listening = new Map<string, Listening | undefined>();
  readonly #period: Timer;
  #settle: Timer | undefined;
  #seen = new Map<string, string>();
  #closed = false;

  constructor(files: readonly string[], clock: Clock, onChange: () => void) {
    this.#files = files;
    this.#clock = clock;
    this.#onChange = onChange;
    for (const file of files) this.#listening.set(dirname(resolve(file)), undefined);
    this.#stir();
    this.#period = clock.every(LOOK_PERIOD_MS, () => void this.#look()).unref();
  }

  /** Remembers the files as they are now; a later change is one against this. */
  async remember(): Promise<void> {
    await this.#listen();
    this.#seen = await this.#fingerprints();
  }

  close(): void {
    this.#closed = true;
    this.#period.cancel();
    this.#settle?.cancel();
    for (const listening of this.#listening.values()) listening?.watcher.close();
  }

  /** Listens where the files are or will come; what came since the last time is seen by the look that follows. */
  async #listen(): Promise<void> {
    await Promise.all([...this.#listening.keys()].map((directory) => this.#listenFor(directory)));
  }

  async #listenFor(directory: string): Promise<void> {
    // Once more after each new watch: a nearer directory may have come before it began.
    for (;;) {
      const before = this.#listening.get(directory);
      const found = await nearest(directory);
      if (this.#closed || this.#listening.get(directory) !== before) return;
      if (found?.at === before?.at && found?.ino === before?.ino) return;
      before?.watcher.close();
      const listening = found && this.#watch(directory, found.at, found.ino);
      this.#listening.set(directory, listening);
      if (listening === undefined) return;
    }
  }

  #watch(directory: string, at: string, ino: number): Listening | undefined {
    try {
      const watcher = watch(at, { persistent: false }, () => {
        // In a directory above much may happen: the first event counts, where the others wait for the last.
        if (at === directory || this.#settle === undefined) this.#stir();
      });
      // A watch that breaks (directory removed) leaves the periodic look.
      watcher.on('error', () => watcher.close());
      return { at, ino, watcher };
    } catch {
      return undefined;
    }
  }

  #stir(): void {
    this.#settle?.cancel();
    if (this.#closed) return;
    this.#settle = this.#clock
      .after(SETTLE_MS, () => {
        this.#settle = undefined;
        void this.#look();
      })
      .unref();
  }

  async #fingerprints(): Promise<Map<string, string>> {
    const entries = this.#files.map(async (file) => [file, await fingerprint(file)] as const);
    return new Map(await Promise.all(entries));
  }

  async #look(): Promise<void> {
    await this.#listen();
    const now = await this.#fingerprints();
    const changed = [...now].some(([file, print]) => this.#seen.get(file) !== print);
    if (!changed || this.#closed) return;
    this.#seen = now;
    this.#onChange();
  }
}
