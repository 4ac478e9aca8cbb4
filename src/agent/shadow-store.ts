import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { foreignCodeOf, writeFileAtomically } from '../runtime/index.ts';

const FILE_NAME = 'policy.shadow.tar.gz';

/** The shadow bundle over restarts, until it is stopped; who may sign it is asked again when it is started. */
export class ShadowStore {
  readonly #path: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, FILE_NAME);
  }

  /** @throws Error when it is there and cannot be read */
  async read(): Promise<Buffer | undefined> {
    try {
      return await readFile(this.#path);
    } catch (error) {
      if (foreignCodeOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  keep(bytes: Buffer): void {
    writeFileAtomically(this.#path, bytes);
  }

  forget(): void {
    rmSync(this.#path, { force: true });
  }
}
