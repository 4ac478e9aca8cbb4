import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE } from '../../runtime/index.ts';
import { headOf, nameOf, type PolicyArtifact, readArtifact, readName } from './artifact.ts';

/** What may wait for the database; beyond it new artifacts are not kept over a restart. */
export const MAX_SHELF_BYTES = 512 * 1024 * 1024;
const TEMPORARY = '.tmp';

/** Artifacts on disk that the database does not have yet, one file each. Asynchronous: the loop carries streams. */
export class Shelf {
  readonly #directory: string;
  readonly #sizes = new Map<string, number>();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /** Makes the directory when it is not there, and finds what an earlier process left. @throws what the file system says */
  static async open(directory: string): Promise<Shelf> {
    const shelf = new Shelf(directory);
    await mkdir(directory, { recursive: true, mode: PRIVATE_DIRECTORY_MODE });
    for (const name of await readdir(directory)) {
      const path = join(directory, name);
      if (readName(name) !== undefined) shelf.#sizes.set(name, (await stat(path)).size);
      // A process was killed while it wrote: the agent has the bundle and puts it here again.
      else if (name.endsWith(TEMPORARY)) await rm(path, { force: true });
    }
    return shelf;
  }

  get names(): readonly string[] {
    return [...this.#sizes.keys()];
  }

  /** Resolves when it is on disk. @throws Error when the shelf is full, or what the file system says */
  async put(artifact: PolicyArtifact): Promise<void> {
    const name = nameOf(artifact);
    if (this.#sizes.has(name)) return;
    const head = headOf(artifact);
    const size = Buffer.byteLength(head) + artifact.content.length;
    const used = [...this.#sizes.values()].reduce((sum, one) => sum + one, 0);
    if (used + size > MAX_SHELF_BYTES) {
      throw new Error(`${String(used + size)} bytes would wait, the limit is ${String(MAX_SHELF_BYTES)}`);
    }
    const path = join(this.#directory, name);
    const file = await open(`${path}${TEMPORARY}`, 'w', PRIVATE_FILE_MODE);
    try {
      await file.writeFile(head);
      await file.writeFile(artifact.content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}${TEMPORARY}`, path);
    this.#sizes.set(name, size);
  }

  /** Undefined when the file is damaged. @throws what the file system says */
  async read(name: string): Promise<PolicyArtifact | undefined> {
    return readArtifact(await readFile(join(this.#directory, name)));
  }

  async remove(name: string): Promise<void> {
    this.#sizes.delete(name);
    await rm(join(this.#directory, name), { force: true });
  }
}
