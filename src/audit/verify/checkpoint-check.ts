import type pg from 'pg';
import { type Checkpoint, readCheckpoint, type SignedCheckpoint } from '../checkpoint/checkpoint.ts';
import type { TrustFile } from '../seal/trust.ts';
import { CheckpointHeads } from './checkpoint-heads.ts';
import { type CheckpointFile, checkpointLines } from './checkpoint-lines.ts';
import { CheckpointSeries } from './checkpoint-series.ts';
import { CheckpointSigners } from './checkpoint-signers.ts';
import type { Findings } from './report.ts';

/** Rows read at once, up to 150 KB each. */
const ROW_PAGE = 100;
const BEFORE_ALL_IDS = '00000000-0000-0000-0000-000000000000';
const MICROS_PER_MS = 1_000;
const UUID_TIME_DIGITS = 12;
const HEX = 16;

export interface CheckpointCheckOptions {
  readonly client: pg.ClientBase;
  readonly trust: TrustFile | undefined;
  /** As they were before the snapshot; undefined: none were given. */
  readonly files: readonly CheckpointFile[] | undefined;
  /** Rows of checkpoints made before that may be missing; undefined: none. */
  readonly removedBeforeMs: number | undefined;
  readonly findings: Findings;
}

export interface CheckpointTotals {
  /** Believed ones of files; null when no file was given. */
  readonly count: number | null;
  /** Chains of which a believed one of a file names a head. */
  readonly anchored: ReadonlySet<string>;
  readonly notes: readonly string[];
}

interface CheckpointRow {
  readonly checkpoint_id: string;
  readonly series: string;
  readonly number: string;
  readonly signer: string;
  readonly made_us: string;
  readonly canonical: Buffer;
  readonly signature: Buffer;
}

const rowsAfter = async (client: pg.ClientBase, id: string): Promise<CheckpointRow[]> => {
  const { rows } = await client.query<CheckpointRow>(
    `select checkpoint_id, series, number, signer, canonical, signature,
       floor(extract(epoch from made_at) * 1000000)::bigint as made_us
     from audit.checkpoint where checkpoint_id > $1 order by checkpoint_id limit $2`,
    [id, ROW_PAGE],
  );
  return rows;
};

const alteredColumns = (row: CheckpointRow, checkpoint: Checkpoint): string[] => {
  const compared: [string, boolean][] = [
    ['checkpoint_id', row.checkpoint_id === checkpoint.id],
    ['series', row.series === checkpoint.series],
    ['number', Number(row.number) === checkpoint.number],
    ['signer', row.signer === checkpoint.signer],
    ['made_at', Number(row.made_us) === Date.parse(checkpoint.time) * MICROS_PER_MS],
  ];
  return compared.filter(([, same]) => !same).map(([name]) => name);
};

/** When a UUIDv7 was made, by its first 48 bits, milliseconds since 1970. */
const madeMs = (id: string): number =>
  Number.parseInt(id.replaceAll('-', '').slice(0, UUID_TIME_DIGITS), HEX);

const fingerprint = ({ digest, signature }: Pick<SignedCheckpoint, 'digest' | 'signature'>): string =>
  `${digest.toString('hex')} ${signature.toString('hex')}`;

/** Checks the checkpoints of files and of the database against each other and against the seals that they name. */
class CheckpointCheck {
  readonly #o: CheckpointCheckOptions;
  readonly #signers: CheckpointSigners;
  readonly #heads: CheckpointHeads;
  readonly #series = new CheckpointSeries();
  readonly #anchored = new Set<string>();
  /** Believed ones of files, by id. */
  readonly #lines = new Map<string, string>();
  /** Ids that lines say the database had, and which line says so. */
  readonly #stored = new Map<string, string>();
  #tornCount = 0;
  #laterCount = 0;

  constructor(options: CheckpointCheckOptions) {
    this.#o = options;
    this.#signers = new CheckpointSigners(options.trust, options.findings);
    this.#heads = new CheckpointHeads(options.client, options.findings);
  }

  async run(): Promise<CheckpointTotals> {
    const { files, findings } = this.#o;
    for (const file of files ?? []) await this.#checkFile(file);
    this.#series.check(findings);
    await this.#checkRows();
    for (const [id, name] of this.#stored) {
      if (madeMs(id) < (this.#o.removedBeforeMs ?? Number.NEGATIVE_INFINITY)) continue;
      findings.add(
        'checkpoint_missing',
        `${name} says that the database had checkpoint ${id}, which is gone`,
      );
    }
    await this.#heads.finish();
    return {
      count: files === undefined ? null : this.#lines.size,
      anchored: this.#anchored,
      notes: this.#notes(),
    };
  }

  async #checkFile(file: CheckpointFile): Promise<void> {
    for await (const { name, signed, isTorn } of checkpointLines(file)) {
      if (isTorn) this.#tornCount += 1;
      else if (signed === undefined) this.#o.findings.add('checkpoint_altered', `${name} is no checkpoint`);
      else if (this.#signers.believes(signed, name)) await this.#takeLine(signed, name);
    }
  }

  async #takeLine(signed: SignedCheckpoint, name: string): Promise<void> {
    const { id, stored, heads } = signed.checkpoint;
    if (this.#lines.get(id) === fingerprint(signed)) return;
    this.#lines.set(id, fingerprint(signed));
    this.#series.take(signed);
    if (stored !== null) this.#stored.set(stored, name);
    for (const { chain } of heads) this.#anchored.add(chain);
    await this.#takeHeads(signed, name);
  }

  async #takeHeads({ checkpoint: { own, heads } }: SignedCheckpoint, name: string): Promise<void> {
    for (const head of heads) await this.#heads.take(head, name, true);
    if (own !== null) await this.#heads.take(own, name, false);
  }

  async #checkRows(): Promise<void> {
    for (let after = BEFORE_ALL_IDS; ; ) {
      const page = await rowsAfter(this.#o.client, after);
      for (const row of page) await this.#checkRow(row);
      const last = page.at(-1);
      if (last === undefined) return;
      after = last.checkpoint_id;
    }
  }

  async #checkRow(row: CheckpointRow): Promise<void> {
    const { findings } = this.#o;
    const name = `checkpoint ${row.checkpoint_id} of the database`;
    const signed = readCheckpoint(row.canonical.toString('utf8'), row.signature);
    const line = this.#lines.get(row.checkpoint_id);
    this.#stored.delete(row.checkpoint_id);
    if (signed === undefined) {
      findings.add('checkpoint_altered', `${name}: the canonical bytes are none`);
      return;
    }
    const columns = alteredColumns(row, signed.checkpoint);
    if (columns.length > 0) {
      findings.add(
        'checkpoint_altered',
        `${name}: columns differ from what was signed: ${columns.join(', ')}`,
      );
    }
    if (line !== undefined && line !== fingerprint(signed)) {
      findings.add('checkpoint_altered', `${name} is not the one of the files`);
    }
    if (!this.#signers.believes(signed, name)) return;
    if (this.#series.isBehind(signed)) this.#laterCount += 1;
    await this.#takeHeads(signed, name);
  }

  #notes(): string[] {
    const { unstoredCount } = this.#heads;
    const torn = this.#tornCount;
    const later = this.#laterCount;
    return [
      ...(torn === 0 ? [] : [`${torn} lines of checkpoint files were cut while they were written`]),
      ...(later === 0 ? [] : [`the database has ${later} checkpoints later than those of the files`]),
      ...(unstoredCount === 0 ? [] : [`${unstoredCount} batches that writers had sealed are not stored yet`]),
    ];
  }
}

/**
 * Checks checkpoints (docs/audit-format.md, Checkpoint). What is stored of the chains is asked for in chunks, so that it can
 * run before, after or beside the check of the chains, in the same snapshot.
 * @throws AppError ERR_AUDIT_TRUST_INVALID when a file cannot be read; what the database throws
 */
export const checkCheckpoints = (options: CheckpointCheckOptions): Promise<CheckpointTotals> =>
  new CheckpointCheck(options).run();
