import { type FSWatcher, watch } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname } from 'node:path';
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

/** Calls back when any of some files was replaced, written, created or removed. */
export class FileWatch {
  readonly #files: readonly string[];
  readonly #onChange: () => void;
  readonly #clock: Clock;
  readonly #watchers: FSWatcher[] = [];
  readonly #period: Timer;
  #settle: Timer | undefined;
  #seen = new Map<string, string>();
  #closed = false;

  constructor(files: readonly string[], clock: Clock, onChange: () => void) {
    this.#files = files;
    this.#clock = clock;
    this.#onChange = onChange;
    for (const directory of new Set(files.map((file) => dirname(file)))) this.#listen(directory);
    this.#period = clock.every(LOOK_PERIOD_MS, () => void this.#look()).unref();
  }

  /** Remembers the files as they are now; a later change is one against this. */
  async remember(): Promise<void> {
    this.#seen = await this.#fingerprints();
  }

  close(): void {
    this.#closed = true;
    this.#period.cancel();
    this.#settle?.cancel();
    for (const watcher of this.#watchers) watcher.close();
  }

  #listen(directory: string): void {
    try {
      const watcher = watch(directory, { persistent: false }, () => this.#stir());
      // A watch that breaks (directory removed) leaves the periodic look.
      watcher.on('error', () => watcher.close());
      this.#watchers.push(watcher);
    } catch {
      // The directory does not exist yet: the periodic look finds the file when it comes.
      this.#stir();
    }
  }

  #stir(): void {
    this.#settle?.cancel();
    if (this.#closed) return;
    this.#settle = this.#clock.after(SETTLE_MS, () => void this.#look()).unref();
  }

  async #fingerprints(): Promise<Map<string, string>> {
    const entries = this.#files.map(async (file) => [file, await fingerprint(file)] as const);
    return new Map(await Promise.all(entries));
  }

  async #look(): Promise<void> {
    const now = await this.#fingerprints();
    const changed = [...now].some(([file, print]) => this.#seen.get(file) !== print);
    if (!changed || this.#closed) return;
    this.#seen = now;
    this.#onChange();
  }
}
