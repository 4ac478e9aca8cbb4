import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { foreignCodeOf, type Logger, messageOf, writeFileAtomically } from '../../runtime/index.ts';

/** Enough of a source's digest to tell sources apart in one directory. */
const SOURCE_DIGITS = 12;

/** The last good bundle of one source, with its signature, over restarts. Without a directory it keeps nothing. */
export class LastGood {
  readonly #file: string | undefined;
  readonly #logger: Logger;

  /** @param source path or URL; another source has a last good bundle and a sequence of its own */
  constructor(stateDir: string | undefined, source: string, logger: Logger) {
    const digest = createHash('sha256').update(source).digest('hex').slice(0, SOURCE_DIGITS);
    this.#file = stateDir === undefined ? undefined : join(stateDir, `last-good-bundle-${digest}.tar.gz`);
    this.#logger = logger;
  }

  /** Never rejects: what cannot be read is said in the log and is not there. */
  async read(): Promise<Buffer | undefined> {
    if (this.#file === undefined) return undefined;
    try {
      return await readFile(this.#file);
    } catch (thrown) {
      if (foreignCodeOf(thrown) !== 'ENOENT') this.unusable(thrown);
      return undefined;
    }
  }

  unusable(thrown: unknown): void {
    const cause = messageOf(thrown);
    this.#logger.warn({ file: this.#file, cause }, 'the last good bundle cannot be used');
  }

  keep(bytes: Buffer): void {
    if (this.#file === undefined) return;
    try {
      writeFileAtomically(this.#file, bytes);
    } catch (thrown) {
      const cause = messageOf(thrown);
      this.#logger.error({ file: this.#file, cause }, 'the last good bundle cannot be kept over restarts');
    }
  }
}
