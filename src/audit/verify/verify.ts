import type pg from 'pg';
import {
  type Clock,
  DatabaseProblem,
  foreignCodeOf,
  isAppError,
  messageOf,
  systemClock,
} from '../../runtime/index.ts';
import { auditError } from '../errors.ts';
import { loadTrust, type TrustFile } from '../seal/trust.ts';
import { newClient, withClient } from '../store/client.ts';
import { NO_SCHEMA } from '../store/no-schema.ts';
import { walkChains } from './chain-walk.ts';
import { type ChangeTotals, checkChanges, type ControlChanges } from './change-check.ts';
import { checkCheckpoints, type CheckpointTotals } from './checkpoint-check.ts';
import { type CheckpointFile, openCheckpointFile } from './checkpoint-lines.ts';
import { Countersigned } from './countersigned.ts';
import { type Beginning, beginFull, beginResumed, beginSince } from './coverage.ts';
import { checkHeads, type OutsideHead, readOutsideHead } from './heads.ts';
import { checkLinks, checkRow } from './link-check.ts';
import { type ChainTotals, isClean } from './piece.ts';
import { PieceChecker, type PieceSetup } from './piece-checker.ts';
import { PiecePool } from './piece-pool.ts';
import { Findings, type VerifyReport } from './report.ts';
import { ResumeFile } from './resume-file.ts';
import { readRetention, type Retention, retainedOf } from './retention-check.ts';
import { allChains, type ChainRow, eventColumns, strayEvents } from './rows.ts';
import { SignerCheck } from './signer-check.ts';
import { beginReading, exportSnapshot, VERIFY_APPLICATION } from './snapshot.ts';

/** What to do about a refusal, by SQLSTATE. */
const WAY_ON: Readonly<Record<string, string>> = {
  '42501': '; use a login of audit_verify, or the owner',
  ...NO_SCHEMA,
};

export interface SiteTrust {
  readonly trustFile: string;
  /** Raw public key of the site's audit root, hex. */
  readonly root?: string | undefined;
}

export interface VerifyOptions {
  /** Of a login that may read the tables (`audit_verify`, or the owner). */
  readonly databaseUrl: string;
  /** Trust file; without it signatures are not checked and the result is never ok. */
  readonly trustFile?: string | undefined;
  /** Raw public key of the audit root, hex: the trust file must be signed by it. */
  readonly root?: string | undefined;
  /** Trust files of other sites by their names: for imported chains, and for no others. */
  readonly siteTrust?: ReadonlyMap<string, SiteTrust> | undefined;
  /** Head files of writers: anchors against truncation. */
  readonly headFiles?: readonly string[] | undefined;
  /** Files with checkpoints of writers: anchors against truncation. */
  readonly checkpointFiles?: readonly string[] | undefined;
  /** Also compare every column with the canonical bytes. */
  readonly columns?: boolean | undefined;
  /** Also find an event for each change of this control database, read before the call. */
  readonly changes?: ControlChanges | undefined;
  /**
   * How long everything is kept, milliseconds: only what was older when an operator signed its request may be missing.
   * Without it each such request is a finding.
   */
  readonly keepMs?: number | undefined;
  /** Threads that check, each with a connection of its own; fewer when there is little to do. 1 unless given. */
  readonly workers?: number | undefined;
  /** Batches of a chain that are checked at one go. */
  readonly pieceBatches?: number | undefined;
  /** Remembers what was verified, and goes on from there; not with `sinceMs`. */
  readonly resumeFile?: string | undefined;
  /** Only what was sealed since, milliseconds since 1970. */
  readonly sinceMs?: number | undefined;
  /** Stops it between two pieces. */
  readonly signal?: AbortSignal | undefined;
  readonly clock?: Clock | undefined;
  readonly onProgress?: ((done: VerifyProgress) => void) | undefined;
}

export interface VerifyProgress {
  /** Events checked so far, as the seals count them. */
  readonly events: number;
  /** Events that are to be checked, as the columns of the seals count them: nothing of it is evidence. */
  readonly total: number;
}

/** Fewer are not worth the start of a thread. */
const PIECES_PER_THREAD = 2;
/** Some tenths of a second of work, 20,000 events when batches are full. */
const PIECE_BATCHES = 100;

const changeNotes = (totals: ChangeTotals | undefined): string[] => {
  if (totals === undefined) return ['changes of the control database not compared (--control)'];
  const { waiting, repeated, beyondRetention } = totals;
  return [
    ...(waiting === 0 ? [] : [`${waiting} changes of the last minute have no event yet`]),
    ...(repeated === 0 ? [] : [`${repeated} changes were handed over twice: same id, same content`]),
    ...(beyondRetention === 0 ? [] : [`${beyondRetention} things are older than what retention left`]),
  ];
};

const notesOf = (o: VerifyOptions, openEnds: number, chains: readonly ChainRow[]): string[] => {
  const notes: string[] = [];
  if (o.trustFile === undefined) notes.push('signatures not checked: no trust file was given');
  const sites = new Set(chains.flatMap(({ row }) => row?.site ?? []));
  for (const site of sites) {
    if (o.siteTrust?.has(site) !== true) notes.push(`no trust file of site ${site} was given (--site-trust)`);
  }
  if (openEnds > 0) {
    notes.push(
      `truncation not checked: ${openEnds} chains that none continues are in no head file or checkpoint file`,
    );
  }
  if (o.columns !== true) notes.push('columns not compared with the events (--columns)');
  return notes;
};

const trustOf = (options: VerifyOptions): TrustFile | undefined =>
  options.trustFile === undefined ? undefined : loadTrust(options.trustFile, options.root);

/** Counts what is done; a piece that is checked again is not counted again. */
class Progress {
  readonly #total: number;
  readonly #tell: ((done: VerifyProgress) => void) | undefined;
  #events = 0;

  constructor(total: number, tell: ((done: VerifyProgress) => void) | undefined) {
    this.#total = Math.max(total, 0);
    this.#tell = tell;
  }

  readonly add = (count: number): void => {
    this.#events = Math.min(this.#events + count, this.#total);
    this.#tell?.({ events: this.#events, total: this.#total });
  };

  get text(): string {
    return `${this.#events} of ${this.#total} events`;
  }
}

/** One verification: what is given, and what is found in the snapshot. */
class Verification {
  readonly #options: VerifyOptions;
  readonly #trust: TrustFile | undefined;
  readonly #siteTrust: ReadonlyMap<string, TrustFile>;
  readonly #heads: readonly OutsideHead[];
  readonly #checkpointFiles: readonly CheckpointFile[] | undefined;
  readonly #resume: ResumeFile | undefined;
  readonly #findings = new Findings();
  readonly #countersigned = new Countersigned();
  readonly #totals = new Map<string, ChainTotals>();

  constructor(options: VerifyOptions) {
    this.#options = options;
    this.#trust = trustOf(options);
    this.#siteTrust = new Map(
      [...(options.siteTrust ?? [])].map(([site, given]) => [site, loadTrust(given.trustFile, given.root)]),
    );
    this.#heads = (options.headFiles ?? []).map(readOutsideHead).filter((head) => head !== undefined);
    // Before the snapshot: what they name by then is in it.
    this.#checkpointFiles = options.checkpointFiles?.map(openCheckpointFile);
    const settings = {
      columns: options.columns === true,
      keepMs: options.keepMs,
      trust: this.#trust,
      siteTrust: this.#siteTrust,
    };
    const { resumeFile, clock = systemClock } = options;
    this.#resume = resumeFile === undefined ? undefined : new ResumeFile(resumeFile, settings, clock);
  }

  async run(client: pg.Client): Promise<VerifyReport> {
    const { keepMs } = this.#options;
    const findings = this.#findings;
    // One snapshot for all: a store that is being written to is verified as of now.
    await beginReading(client);
    const rows = await allChains(client);
    const signers = new SignerCheck(this.#trust);
    const retention = await readRetention({ client, trust: this.#trust, signers, keepMs, findings });
    const beginning = await this.#begin(client, rows, signers);
    const before = { seals: 0, events: 0 };
    for (const totals of beginning.chains) {
      before.seals += totals.sums.seals;
      before.events += totals.sums.events;
      this.#totals.set(totals.chain, totals);
    }
    await this.#walk(client, rows, beginning, retention);
    for (const stray of await strayEvents(client)) {
      findings.add('event_unsealed', `${stray.count} events that no seal covers`, {
        chain: stray.chain_id,
        seq: stray.seq,
      });
    }
    const checkpoints = await checkCheckpoints({
      client,
      trust: this.#trust,
      files: this.#checkpointFiles,
      removedBeforeMs: retention.removedBeforeMs,
      findings,
    });
    const { changes: given } = this.#options;
    const changes =
      given === undefined
        ? undefined
        : await checkChanges(client, given, retention.removedBeforeMs, findings);
    const continued = await checkLinks(client, this.#totals, findings);
    await checkHeads(client, this.#heads, findings);
    await client.query('commit');
    this.#countersigned.report(findings);
    this.#resume?.save();
    return this.#report({ rows, beginning, before, continued, checkpoints, changes, retention });
  }

  #begin(client: pg.Client, rows: readonly ChainRow[], signers: SignerCheck): Promise<Beginning> | Beginning {
    const { sinceMs } = this.#options;
    if (this.#resume !== undefined) {
      return beginResumed(client, rows, this.#resume, this.#countersigned, this.#findings);
    }
    if (sinceMs === undefined) return beginFull(rows);
    const ofSites = new Map([...this.#siteTrust].map(([site, trust]) => [site, new SignerCheck(trust)]));
    const own = this.#trust === undefined ? undefined : signers;
    return beginSince(client, rows, sinceMs, (site) => (site === null ? own : (ofSites.get(site) ?? own)));
  }

  async #walk(
    client: pg.Client,
    rows: readonly ChainRow[],
    { chains, notRead }: Beginning,
    { alibis }: Retention,
  ): Promise<void> {
    const { databaseUrl, workers = 1, pieceBatches = PIECE_BATCHES, signal } = this.#options;
    const sum = (of: (row: ChainRow) => number): number => rows.reduce((all, row) => all + of(row), 0);
    const progress = new Progress(
      sum(({ claimed }) => claimed) - (notRead?.events ?? 0),
      this.#options.onProgress,
    );
    const setup: PieceSetup = {
      trust: this.#trust,
      siteTrust: this.#siteTrust,
      columns: this.#options.columns === true ? await eventColumns(client) : undefined,
      alibis,
    };
    const seals = sum((row) => row.seals) - (notRead?.seals ?? 0);
    const threads = Math.min(workers, Math.ceil(seals / (pieceBatches * PIECES_PER_THREAD)));
    const runner =
      threads <= 1
        ? new PieceChecker(client, setup, progress.add)
        : new PiecePool(
            threads,
            { databaseUrl, snapshot: await exportSnapshot(client), setup },
            progress.add,
          );
    const byChain = new Map(rows.map((row) => [row.chain_id, row]));
    const unclean = new Set<ChainTotals>();
    try {
      const isDone = await walkChains(chains, {
        client,
        runner,
        pieceBatches,
        isStopped: () => signal?.aborted === true,
        onPiece: (totals, result) => {
          this.#findings.addPart(result.findings);
          this.#countersigned.add(result.heads);
          if (this.#resume === undefined || unclean.has(totals)) return;
          if (isClean(result)) this.#resume.remember(totals, result.heads.latest);
          else unclean.add(totals);
        },
        onChain: (totals) => this.#checkChain(byChain.get(totals.chain), totals),
      });
      if (isDone) return;
      const found = this.#findings.count === 0 ? '' : `, with ${this.#findings.count} findings`;
      throw auditError('ERR_AUDIT_VERIFY_STOPPED', `stopped after ${progress.text}${found}`);
    } catch (cause) {
      // What was verified before stays so. The cause is what is told, whatever becomes of the file.
      try {
        this.#resume?.save();
      } catch {
        // The file is then that of the last save: whole, and older.
      }
      throw cause;
    } finally {
      await runner.close();
    }
  }

  #checkChain(row: ChainRow | undefined, totals: ChainTotals): void {
    const { chain, stray } = totals;
    if (stray !== null) {
      const message = `${stray.count} events that no seal covers`;
      this.#findings.add('event_unsealed', message, { chain, seq: stray.first });
    }
    if (row !== undefined) checkRow(row, totals, this.#findings);
  }

  #report(o: {
    rows: readonly ChainRow[];
    beginning: Beginning;
    before: { seals: number; events: number };
    continued: ReadonlySet<string>;
    checkpoints: CheckpointTotals;
    changes: ChangeTotals | undefined;
    retention: Retention;
  }): VerifyReport {
    const findings = this.#findings;
    const { notRead } = o.beginning;
    const totals = [...this.#totals.values()];
    const anchored = new Set([...this.#heads.map((head) => head.chain), ...o.checkpoints.anchored]);
    const openEnds = totals.filter(({ chain }) => !o.continued.has(chain) && !anchored.has(chain)).length;
    const fromOutside = this.#heads.length + (o.checkpoints.count ?? 0);
    if (this.#trust === undefined && fromOutside === 0) {
      findings.add(
        'no_anchor',
        'nothing from outside the database was given: whoever can write it can make it verify',
      );
    }
    const sum = (of: (sums: ChainTotals['sums']) => number): number =>
      totals.reduce((all, { sums }) => all + of(sums), 0);
    const isPartial = notRead?.because === 'since';
    const difference = this.#resume?.difference;
    return {
      ok: findings.count === 0 && !isPartial,
      coverage: isPartial ? 'partial' : notRead === null ? 'full' : 'resumed',
      not_read: notRead,
      chains: o.rows.length,
      seals: sum(({ seals }) => seals) - o.before.seals,
      events: sum(({ events }) => events) - o.before.events,
      findings: findings.list,
      more_findings: findings.more,
      truncation: openEnds === 0 ? 'checked' : 'not checked',
      breaks: sum(({ start }) => ((start?.prevChain ?? null) === null ? 1 : 0)),
      dropped: sum(({ dropped }) => dropped),
      checkpoints: o.checkpoints.count,
      changes: o.changes?.changes ?? null,
      retained: retainedOf(o.retention, new Map(totals.map(({ chain, sums }) => [chain, sums]))),
      notes: [
        ...(difference === undefined
          ? []
          : [`everything was read again: the resume file was written ${difference}`]),
        ...notesOf(this.#options, openEnds, o.rows),
        ...o.checkpoints.notes,
        ...changeNotes(o.changes),
      ],
    };
  }
}

/**
 * Verifies a store of evidence: every chain, its seals, signatures, contiguity, leaves and events. Memory does not grow
 * with the store, but with its chains and with what is wrong.
 * @throws AppError ERR_AUDIT_DATABASE, ERR_AUDIT_TRUST_INVALID, ERR_AUDIT_RESUME_INVALID, ERR_AUDIT_VERIFY_STOPPED
 */
export const verifyAudit = async (options: VerifyOptions): Promise<VerifyReport> => {
  const verification = new Verification(options);
  try {
    return await withClient(newClient(options.databaseUrl, VERIFY_APPLICATION), (client) =>
      verification.run(client),
    );
  } catch (cause) {
    if (isAppError(cause)) throw cause;
    const code = foreignCodeOf(cause);
    const detail =
      code === undefined || cause instanceof DatabaseProblem
        ? messageOf(cause)
        : `${messageOf(cause)} (${code})`;
    const wayOn = WAY_ON[code ?? ''] ?? '';
    throw auditError('ERR_AUDIT_DATABASE', `the audit database cannot be verified: ${detail}${wayOn}`, {
      cause,
      retryable: !(code !== undefined && code in WAY_ON),
    });
  }
};
