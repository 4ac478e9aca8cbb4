import type pg from 'pg';
import { AppError, type Clock, foreignCodeOf, messageOf, sleep, uuidv7 } from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { readAuditKey } from '../seal/audit-key.ts';
import { loadTrust, OPERATOR_KIND } from '../seal/trust.ts';
import { newClient, withClient } from '../store/client.ts';
import { refusalText } from '../store/no-schema.ts';
import {
  MAX_REQUEST_DAYS,
  MAX_REQUEST_RANGES,
  type RetainedRange,
  requestHash,
  type RetentionRequest,
  signRequest,
} from './request.ts';

const POLL_MS = 500;
/** Tries for a lock that somebody holds, two seconds each. */
const LOCK_ATTEMPTS = 5;
const LOCK_NOT_AVAILABLE = '55P03';

interface RemovableRow {
  readonly day: string;
  readonly chain_id: string | null;
  readonly first_batch: string;
  readonly last_batch: string;
  readonly seal: Buffer;
  readonly newest: Date;
}

/** What may go: days, oldest first, with their batches. */
export interface Removable {
  readonly days: readonly string[];
  readonly batches: readonly RetainedRange[];
  /** A day that ended before the instant but holds a seal of later time, by a clock that is ahead: it stays, with later ones. */
  readonly heldBack: string | undefined;
}

/** Runs something as a role that retains. @throws AppError ERR_AUDIT_DATABASE, ERR_AUDIT_RETENTION_REFUSED */
const onDatabase = async <T>(databaseUrl: string, call: (client: pg.Client) => Promise<T>): Promise<T> => {
  try {
    return await withClient(newClient(databaseUrl, 'sallyport-audit-retain'), async (client) => {
      await client.query("set timezone to 'UTC'");
      return call(client);
    });
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    const code = foreignCodeOf(cause);
    if (code === 'SA002' || code === LOCK_NOT_AVAILABLE) {
      throw auditError('ERR_AUDIT_RETENTION_REFUSED', `nothing was removed: ${messageOf(cause)}`, { cause });
    }
    throw auditError('ERR_AUDIT_DATABASE', `the audit database refused: ${refusalText(cause)}`, { cause });
  }
};

/**
 * Makes daily partitions from today on, at most 366 days ahead. Returns why some could not be made.
 * @throws AppError ERR_AUDIT_DATABASE
 */
export const partitionsAhead = (databaseUrl: string, days: number): Promise<string | undefined> =>
  onDatabase(databaseUrl, async (client) => {
    const { rows } = await client.query<{ failures: string | null }>(
      'select audit.partitions_ahead($1) as failures',
      [days],
    );
    return rows[0]?.failures ?? undefined;
  });

const rangeOf = (row: RemovableRow): RetainedRange | undefined =>
  row.chain_id === null
    ? undefined
    : {
        chain: row.chain_id,
        first: Number(row.first_batch),
        last: Number(row.last_batch),
        seal: row.seal.toString('hex'),
      };

/** Days whose partitions ended before an instant and hold nothing that was sealed later, at most 100 of them. */
export const removableBefore = (databaseUrl: string, beforeMs: number): Promise<Removable> =>
  onDatabase(databaseUrl, async (client) => {
    const { rows } = await client.query<RemovableRow>(
      'select day, chain_id, first_batch, last_batch, seal, newest from audit.removable($1)',
      [new Date(beforeMs).toISOString()],
    );
    const days: string[] = [];
    const batches: RetainedRange[] = [];
    let heldBack: string | undefined;
    for (const day of [...new Set(rows.map((row) => row.day))].slice(0, MAX_REQUEST_DAYS)) {
      const ofDay = rows.filter((row) => row.day === day);
      const ranges = ofDay.map(rangeOf).filter((range) => range !== undefined);
      const late = ofDay.some((row) => row.chain_id !== null && row.newest.getTime() >= beforeMs);
      if (late) heldBack = day;
      if (late || batches.length + ranges.length > MAX_REQUEST_RANGES) break;
      days.push(day);
      batches.push(...ranges);
    }
    return { days, batches, heldBack };
  });

/** The oldest day (`YYYYMMDD`, UTC) that has a partition; undefined when there is none. @throws AppError ERR_AUDIT_DATABASE */
export const oldestDay = (databaseUrl: string): Promise<string | undefined> =>
  onDatabase(databaseUrl, async (client) => {
    const { rows } = await client.query<{ day: string | null }>(
      `select min(day) as day from audit.removable('infinity')`,
    );
    return rows[0]?.day ?? undefined;
  });

/**
 * Refuses a key that a trust file knows as something else than an operator's: no writer would record its request.
 * @throws AppError ERR_AUDIT_KEY_INVALID, ERR_AUDIT_TRUST_INVALID
 */
export const requireOperatorKey = (keyFile: string, trustFile: string): void => {
  const { signer } = readAuditKey(keyFile);
  const known = loadTrust(trustFile).signers.find((one) => one.signer === signer);
  if (known === undefined || known.kind === OPERATOR_KIND) return;
  throw auditError(
    'ERR_AUDIT_KEY_INVALID',
    `${keyFile} is the key of ${known.kind} ${known.name} in ${trustFile}, not of an operator; make one with ` +
      '`sallyport audit trust add --kind operator`',
  );
};

/**
 * Signs a request to remove what may go and stores it for a writer to record. Removes nothing.
 * @throws AppError ERR_AUDIT_KEY_INVALID, ERR_AUDIT_DATABASE
 */
export const requestRetention = async (o: {
  databaseUrl: string;
  operatorKeyFile: string;
  removable: Removable;
  /** When it is signed, and before when everything was sealed that it is for. */
  timeMs: number;
  beforeMs: number;
  clock: Clock;
}): Promise<RetentionRequest> => {
  const key = readAuditKey(o.operatorKeyFile);
  return onDatabase(o.databaseUrl, async (client) => {
    const { rows } = await client.query<{ canonical: Buffer }>(
      'select canonical from audit.retention order by retained_at desc limit 1',
    );
    const { request, text, signature } = signRequest(
      {
        id: uuidv7(o.clock),
        time: new Date(o.timeMs).toISOString(),
        before: new Date(o.beforeMs).toISOString(),
        previous: rows[0] === undefined ? null : requestHash(rows[0].canonical.toString('utf8')),
        days: [...o.removable.days],
        batches: [...o.removable.batches],
      },
      key,
    );
    await client.query('select audit.request_retention($1, $2)', [text, signature]);
    return request;
  });
};

/**
 * Waits until a sealed event names the request; false after `waitMs`.
 * @throws AppError ERR_AUDIT_DATABASE
 */
export const retentionRecorded = (
  databaseUrl: string,
  id: string,
  waitMs: number,
  clock: Clock,
): Promise<boolean> =>
  onDatabase(databaseUrl, async (client) => {
    const fromMs = clock.monotonicMs();
    for (;;) {
      const { rows } = await client.query('select from audit.retention_recorded($1)', [id]);
      if (rows.length > 0) return true;
      if (clock.monotonicMs() - fromMs >= waitMs) return false;
      await sleep(clock, POLL_MS);
    }
  });

/**
 * Deletes the checkpoints of the database from before what a request says that was carried out, but for the last one of each
 * series. Returns how many.
 * @throws AppError ERR_AUDIT_RETENTION_REFUSED when it was not carried out; ERR_AUDIT_DATABASE
 */
export const removeCheckpoints = (databaseUrl: string, id: string): Promise<number> =>
  onDatabase(databaseUrl, async (client) => {
    const { rows } = await client.query<{ removed: string }>(
      'select audit.remove_checkpoints($1) as removed',
      [id],
    );
    return Number(rows[0]?.removed ?? 0);
  });

/**
 * Detaches the partitions of a recorded request, all or none: they stay as tables named `…_detached`, or are dropped.
 * @throws AppError ERR_AUDIT_RETENTION_REFUSED when no sealed event names it, it was carried out before, its
 * partitions hold more than it names, or a lock was not to be had; ERR_AUDIT_DATABASE
 */
export const detachRetained = (databaseUrl: string, id: string, drop: boolean): Promise<string[]> =>
  onDatabase(databaseUrl, async (client) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const { rows } = await client.query<{ names: string[] }>(
          'select audit.detach_retained($1, $2) as names',
          [id, drop],
        );
        return rows[0]?.names ?? [];
      } catch (thrown) {
        if (foreignCodeOf(thrown) !== LOCK_NOT_AVAILABLE || attempt === LOCK_ATTEMPTS) throw thrown;
      }
    }
  });
