import {
  appendFileSync,
  closeSync,
  fdatasyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import {
  AppError,
  foreignCodeOf,
  type Logger,
  messageOf,
  PRIVATE_FILE_MODE,
  syncDirectory,
} from '../runtime/index.ts';
import type { ControlErrorCode } from './errors.ts';
import { REVOCATION_KINDS, type StoredRevocation } from './records.ts';

const FILE_NAME = 'revocations.jsonl';
const LF = 0x0a;

const rowSchema = z.strictObject({
  revocation_id: z.string(),
  key_id: z.string().nullable(),
  /** Lines of before agents could be revoked do not have it, nor the instance. */
  agent: z.string().nullable().default(null),
  instance: z.string().nullable().default(null),
  kind: z.enum(REVOCATION_KINDS),
  reason: z.string(),
  connection: z.string().nullable(),
  connection_id: z.string().nullable(),
  auth_rule: z.string().nullable(),
  slot: z.enum(['primary', 'secondary']).nullable(),
  actor: z.string(),
  created_at: z.iso.datetime(),
  effective_at: z.iso.datetime(),
});

const COLUMNS = Object.keys(rowSchema.shape);

/**
 * Every revocation that this node ever read, a JSON line each, in its state directory: a database that is restored
 * from an old backup does not bring a dead key or agent back to life. A line that was cut by a power cut is dropped, it will be
 * read again from Postgres; any other damage is an error, because starting without the file would forget.
 */
export class RevocationLog {
  readonly path: string;
  readonly #logger: Logger;
  readonly #rows: StoredRevocation[];
  readonly #known: Set<string>;
  #pending: StoredRevocation[] = [];

  /** @throws AppError ERR_CONTROL_STATE when the file is there and cannot be read */
  constructor(stateDirectory: string, logger: Logger) {
    this.path = join(stateDirectory, FILE_NAME);
    this.#logger = logger;
    this.#rows = readRows(this.path);
    this.#known = new Set(this.#rows.map((row) => row.revocation_id));
  }

  /** What the file held when it was opened. */
  get rows(): readonly StoredRevocation[] {
    return this.#rows;
  }

  /** Notes those that are not in it; durable after this loop turn, so that what they cut is cut first. */
  add(rows: readonly StoredRevocation[]): void {
    for (const row of rows) {
      if (this.#known.has(row.revocation_id)) continue;
      this.#known.add(row.revocation_id);
      this.#pending.push(row);
    }
    if (this.#pending.length > 0) setImmediate(() => this.save());
  }

  /** Makes everything noted durable now. */
  save(): void {
    const rows = this.#pending;
    if (rows.length === 0) return;
    this.#pending = [];
    try {
      const file = openSync(this.path, 'a', PRIVATE_FILE_MODE);
      try {
        appendFileSync(file, rows.map((row) => `${JSON.stringify(row, COLUMNS)}\n`).join(''));
        fdatasyncSync(file);
      } finally {
        closeSync(file);
      }
    } catch (error) {
      for (const row of rows) this.#known.delete(row.revocation_id);
      this.#logger.error(
        { path: this.path, cause: messageOf(error) },
        'revocations could not be written; they hold in memory and are written with the next full read',
      );
    }
  }
}

const readRows = (path: string): StoredRevocation[] => {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    if (foreignCodeOf(error) !== 'ENOENT') throw unreadable(path, foreignCodeOf(error) ?? messageOf(error));
    try {
      writeFileSync(path, '', { mode: PRIVATE_FILE_MODE });
      syncDirectory(join(path, '..'));
    } catch (thrown) {
      throw unreadable(path, messageOf(thrown));
    }
    return [];
  }
  const whole = bytes.lastIndexOf(LF) + 1;
  if (whole < bytes.length) cutTail(path, whole);
  const lines = bytes.toString('utf8', 0, whole).split('\n').slice(0, -1);
  return lines.map((line, index) => {
    try {
      return rowSchema.parse(JSON.parse(line));
    } catch {
      throw unreadable(path, `line ${index + 1} is not a revocation`);
    }
  });
};

const cutTail = (path: string, length: number): void => {
  const file = openSync(path, 'r+');
  try {
    ftruncateSync(file, length);
    fdatasyncSync(file);
  } finally {
    closeSync(file);
  }
};

const unreadable = (path: string, why: string): AppError<ControlErrorCode> =>
  new AppError<ControlErrorCode>(
    'ERR_CONTROL_STATE',
    `the revocations in ${path} cannot be read (${why}): restore the file, or remove it to trust the control database alone`,
  );
