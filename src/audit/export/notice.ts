import { createHash } from 'node:crypto';
import { type Clock, foreignCodeOf, messageOf, sleep } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { newClient, withClient } from '../store/client.ts';
import type { ExportInterval } from './snapshot.ts';

const APPLICATION = 'sallyport-audit-export';
const TIMEOUT_MS = 10_000;
const POLL_MS = 500;
const MAX_OUTPUT_BYTES = 1024;
const NO_FUNCTION = '42883';
const REFUSED = '42501';
const READ_ONLY = '25006';

/** How an export is told of in the trail. */
export interface NoticeOptions {
  /** File or directory, `-` for standard output: told as given, at most 1,024 bytes of it. */
  readonly output: string;
  /** Nothing is read before a relay or agent has recorded that the export begins; waits so long for it. */
  readonly waitMs?: number | undefined;
  readonly clock: Clock;
}

/** What an export was, as its last notice tells it. */
export interface ExportResult {
  /** Events. */
  readonly rows: number;
  /** Of what was written; of evidence, of all its files without the manifest. */
  readonly bytes: number;
  /** SHA-256, hex, of what was written; of evidence, of its manifest. */
  readonly sha256: string;
}

interface Facts {
  readonly databaseUrl: string;
  readonly interval: ExportInterval;
  readonly format: string;
  readonly signer?: string | undefined;
  readonly notice: NoticeOptions;
}

const WAY_ON: Readonly<Record<string, string>> = {
  [NO_FUNCTION]: '; the schema is older than this version: `sallyport migrate`',
  [REFUSED]: '; it takes role audit_verify or the owner',
  [READ_ONLY]: '; on a database that cannot be written --no-record exports without a record',
};

const onDatabase = async <T>(
  { databaseUrl }: Facts,
  sql: string,
  values: readonly unknown[],
  of: (answer: unknown) => T,
): Promise<T> => {
  const config = { connectionTimeoutMillis: TIMEOUT_MS, query_timeout: TIMEOUT_MS };
  try {
    return await withClient(newClient(databaseUrl, APPLICATION, config), async (client) => {
      const { rows } = await client.query<{ answer: unknown }>(sql, [...values]);
      return of(rows[0]?.answer);
    });
  } catch (cause) {
    const wayOn = WAY_ON[foreignCodeOf(cause) ?? ''] ?? '';
    const why = `the database takes no notice of the export: ${messageOf(cause)}${wayOn}`;
    throw auditError('ERR_AUDIT_EXPORT_UNRECORDED', why, { cause });
  }
};

/** At most so many bytes of a text, whole characters. */
const cutTo = (text: string, bytes: number): string => {
  const whole = Buffer.from(text.replaceAll('\0', ''));
  return whole.length <= bytes
    ? whole.toString()
    : new TextDecoder().decode(whole.subarray(0, bytes), { stream: true });
};

/** Stores a notice and returns its id. @throws AppError ERR_AUDIT_EXPORT_UNRECORDED */
const notify = (
  facts: Facts,
  begun: string | null,
  stage: string,
  result?: Partial<ExportResult>,
): Promise<string> =>
  onDatabase(
    facts,
    'select audit.notice_export($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) as answer',
    [
      begun,
      stage,
      facts.format,
      facts.interval.from ?? null,
      facts.interval.to ?? null,
      cutTo(facts.notice.output, MAX_OUTPUT_BYTES),
      result?.rows ?? null,
      result?.bytes ?? null,
      result?.sha256 ?? null,
      facts.signer ?? null,
    ],
    String,
  );

const waitForRecord = async (facts: Facts, id: string, waitMs: number): Promise<void> => {
  const { clock } = facts.notice;
  const fromMs = clock.monotonicMs();
  for (;;) {
    const isThere = await onDatabase(
      facts,
      'select audit.export_recorded($1) as answer',
      [id],
      (answer) => answer === true,
    );
    if (isThere) return;
    if (clock.monotonicMs() - fromMs >= waitMs) {
      const why = `no relay or agent has recorded within ${waitMs / 1000} s that the export begins; nothing was exported`;
      throw auditError('ERR_AUDIT_EXPORT_UNRECORDED', why);
    }
    await sleep(clock, POLL_MS);
  }
};

/** Counts and hashes what is written. */
export class WrittenText {
  readonly #hash = createHash('sha256');
  readonly #write: (text: string) => Promise<void>;
  bytes = 0;

  constructor(write: (text: string) => Promise<void>) {
    this.#write = write;
  }

  async write(text: string): Promise<void> {
    this.#hash.update(text);
    this.bytes += Buffer.byteLength(text);
    await this.#write(text);
  }

  sha256(): string {
    return this.#hash.digest('hex');
  }
}

/**
 * Runs an export between two notices of it: that it begins, before anything is read, and how it ended. `run` is to call
 * `tellEnd` when everything is written, before it gives the export its name: what cannot be told is then no export.
 * @throws AppError ERR_AUDIT_EXPORT_UNRECORDED, and what `run` throws
 */
export const withNotices = async <T>(
  facts: Omit<Facts, 'notice'> & { readonly notice: NoticeOptions | undefined },
  run: (tellEnd: (result: ExportResult) => Promise<void>) => Promise<T>,
): Promise<T> => {
  const { notice } = facts;
  if (notice === undefined) return run(() => Promise.resolve());
  const told: Facts = { ...facts, notice };
  const begun = await notify(told, null, 'begun');
  const ended = { isTold: false };
  try {
    if (notice.waitMs !== undefined) await waitForRecord(told, begun, notice.waitMs);
    return await run(async (result) => {
      await notify(told, begun, 'ended', result);
      ended.isTold = true;
    });
  } catch (thrown) {
    // The first notice stands all the same: without an end the export is one that was cut off.
    if (!ended.isTold) await notify(told, begun, 'failed').catch(() => undefined);
    throw thrown;
  }
};
