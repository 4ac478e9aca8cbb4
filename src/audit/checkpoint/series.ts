import { readFile } from 'node:fs/promises';
import { replaceFile } from '../../runtime/index.ts';
import type { AuditKey } from '../seal/audit-key.ts';
import {
  type Checkpoint,
  checkpointLine,
  readCheckpointLine,
  type SignedCheckpoint,
  signCheckpoint,
} from './checkpoint.ts';

/** What a checkpoint says beside its place in the series. */
export type CheckpointFacts = Pick<Checkpoint, 'id' | 'time' | 'own' | 'heads' | 'omitted'>;

/**
 * The checkpoints of one writer for one place. Its file holds the last one, and is replaced before that one is shown to
 * anybody: a number is never used twice, and after a crash the last one is shown again.
 */
export class Series {
  readonly #file: string;
  readonly #key: AuditKey;
  #last: SignedCheckpoint | undefined;
  /** Id of the last one that the database is known to have. */
  stored: string | null = null;

  private constructor(file: string, key: AuditKey, last: SignedCheckpoint | undefined) {
    this.#file = file;
    this.#key = key;
    this.#last = last;
    this.stored = last?.checkpoint.stored ?? null;
  }

  /** Goes on with the series of the file; another key, or a file that is none, begins a new one. */
  static async open(file: string, key: AuditKey): Promise<Series> {
    const text = await readFile(file, 'utf8').catch(() => '');
    const last = readCheckpointLine(text);
    return new Series(file, key, last?.checkpoint.signer === key.signer ? last : undefined);
  }

  get last(): SignedCheckpoint | undefined {
    return this.#last;
  }

  /** Signs the next one; durable in the file on return. @throws what writing the file throws */
  async next(facts: CheckpointFacts): Promise<SignedCheckpoint> {
    const last = this.#last;
    const signed = signCheckpoint(
      {
        ...facts,
        series: last?.checkpoint.series ?? facts.id,
        number: (last?.checkpoint.number ?? 0) + 1,
        prev: last?.digest.toString('hex') ?? null,
        stored: this.stored,
      },
      this.#key,
    );
    await replaceFile(this.#file, `${checkpointLine(signed)}\n`);
    this.#last = signed;
    return signed;
  }
}
