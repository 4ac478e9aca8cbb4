import { hostname } from 'node:os';
import { MessageChannel } from 'node:worker_threads';
import {
  type Clock,
  isAppError,
  type Logger,
  messageOf,
  type DirectoryLock,
  systemClock,
  type Timer,
  uuidv7,
} from '../runtime/index.ts';
import type { AuditHealth, AuditLog, AuditLogOptions, OutageMode, Recorded } from './audit-log.ts';
import { Checkpointer } from './checkpoint/checkpointer.ts';
import { Deliverer, type RefusalReason } from './deliverer.ts';
import { auditError } from './errors.ts';
import { type EnvelopeContext, originText } from './event/envelope.ts';
import type { AuditEventInput } from './event/event.ts';
import { localTimeIn } from './event/local-time.ts';
import { heartbeatOf } from './heartbeat.ts';
import { eventIdOf, lostStreamEvent, type PendingEvent, spoolItem } from './pending-event.ts';
import type { RecentHeads } from './recent-heads.ts';
import { exportLook } from './export/notice-look.ts';
import { retentionLook } from './retention/witness.ts';
import { Witness } from './witness.ts';
import { SinkClient } from './sink/sink-client.ts';
import { DEFAULT_BACKLOG_BYTES } from './sink/sink-settings.ts';
import { MAX_GROUP_EVENTS, OUTCOME, type SpoolState, type SpoolWorkerOptions } from './spool/messages.ts';
import { type Ready, SpoolClient } from './spool/spool-client.ts';
import { lockSpool } from './spool/spool-lock.ts';

const DEFAULT_MAX_SPOOL_BYTES = 1024 * 1024 * 1024;
/** audit.md: three of these without one and a chain counts as silent. */
const HEARTBEAT_MS = 60_000;
/** How long `close` waits for the database before it leaves the rest to the next start. */
const CLOSE_DELIVERY_MS = 3_000;
/** … and then for a last checkpoint. */
const CLOSE_CHECKPOINT_MS = 3_000;
/** Most messages that the worker has not answered; it writes those that are there as one group. */
const MAX_GROUPS_UNDER_WAY = 8;
/** Events that nobody waits for go with the next that somebody does wait for, or after this time. */
const NOTE_DELAY_MS = 10;

/** What a new chain says of the one before: a break, and streams that a crash cut. */
const openingEvents = (ready: Ready): AuditEventInput[] => {
  const events = ready.lost.map(lostStreamEvent);
  if (ready.previous !== undefined && ready.broken === undefined) return events;
  const chainBreak: AuditEventInput = {
    type: 'audit.chain_break',
    subject: {},
    data: {
      reason: ready.broken === undefined ? 'no_previous_spool' : 'spool_damaged',
      previous_chain: ready.previous?.chain,
      previous_batch: ready.previous?.batch,
      detail: ready.broken,
    },
  };
  return [chainBreak, ...events];
};

/** An audit log over a spool worker. */
export class SpooledLog implements AuditLog {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #mode: OutageMode;
  readonly #maxSpoolBytes: number;
  readonly #origin: string;
  readonly #localAt: ((atMs: number) => string) | undefined;
  readonly #startedMs: number;
  readonly #watchers = new Set<() => void>();
  #lock: DirectoryLock | undefined;
  #spool: SpoolClient | undefined;
  #deliverer: Deliverer | undefined;
  #sinks: SinkClient | undefined;
  #witness: Witness | undefined;
  #checkpointer: Checkpointer | undefined;
  #heartbeat: Timer | undefined;
  #context: EnvelopeContext;
  #state: SpoolState | undefined;
  #pending: PendingEvent[] = [];
  #groupsUnderWay = 0;
  #scheduled = false;
  #noteTimer: Timer | undefined;
  #lost: string | undefined;
  #dropped = 0;
  #shareRefusals = 0;
  #noteFailures = 0;
  #refusedChains = 0;
  #closing: Promise<void> | undefined;
  signer = '';

  private constructor(options: AuditLogOptions) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#mode = options.mode ?? 'enforced';
    this.#maxSpoolBytes = options.maxSpoolBytes ?? DEFAULT_MAX_SPOOL_BYTES;
    this.#origin = originText(options.origin);
    this.#localAt = options.origin.zone === undefined ? undefined : localTimeIn(options.origin.zone);
    this.#startedMs = options.clock.monotonicMs();
    this.#context = { chain: '', origin: this.#origin, localAt: this.#localAt };
  }

  /** @throws AppError ERR_AUDIT_SPOOL_OPEN, ERR_AUDIT_SPOOL_IN_USE, ERR_AUDIT_KEY_INVALID */
  static async open(options: AuditLogOptions): Promise<SpooledLog> {
    const log = new SpooledLog(options);
    try {
      log.#lock = await lockSpool(options.spoolDir);
      await log.#start(options);
    } catch (cause) {
      await log.close();
      if (isAppError(cause) && cause.code !== 'ERR_AUDIT_UNAVAILABLE') throw cause;
      throw auditError(
        'ERR_AUDIT_SPOOL_OPEN',
        `spool ${options.spoolDir} cannot be opened: ${messageOf(cause)}`,
        {
          cause,
        },
      );
    }
    return log;
  }

  get chainId(): string {
    return this.#context.chain;
  }

  record(input: AuditEventInput): Promise<Recorded> {
    return this.#enqueue(input, () => this.#schedule());
  }

  note(input: AuditEventInput): void {
    this.#enqueue(input, () => this.#scheduleSoon()).catch((error: unknown) => {
      this.#noteFailures += 1;
      this.#logger.warn({ type: input.type, error: messageOf(error) }, 'audit event was not kept');
    });
  }

  available(): boolean {
    const state = this.#state;
    if (state === undefined || this.#closing !== undefined || this.#lost !== undefined) return false;
    return (
      state.failed === undefined && (this.#mode === 'best_effort' || state.spoolBytes < this.#maxSpoolBytes)
    );
  }

  health(): AuditHealth {
    const state = this.#state;
    const oldest = state?.oldestSealedAt === undefined ? undefined : Date.parse(state.oldestSealedAt);
    const error = this.#deliverer?.error;
    return {
      chain_id: this.chainId,
      last_seq: state?.lastSeq ?? 0,
      spool_bytes: state?.spoolBytes ?? 0,
      max_spool_bytes: this.#maxSpoolBytes,
      unacknowledged_batches: state?.unacknowledged ?? 0,
      oldest_unacknowledged_seconds:
        oldest === undefined ? 0 : Math.max(0, (this.#clock.nowMs() - oldest) / 1000),
      dropped: this.#dropped,
      share_refusals: this.#shareRefusals,
      over_share: state?.overShare ?? [],
      note_failures: this.#noteFailures,
      spool: this.#spoolStatus(state),
      database: this.#deliverer?.status ?? 'none',
      ...(error === undefined ? {} : { database_error: error }),
      mode: this.#mode,
      sink_held_bytes: state?.heldBytes ?? 0,
      sinks: this.#sinks?.status ?? [],
      refused_chains: this.#refusedChains,
      ...(this.#checkpointer === undefined ? {} : { checkpoints: this.#checkpointer.health() }),
    };
  }

  async flush(deadlineMs: number): Promise<boolean> {
    this.#schedule();
    await this.#written();
    await this.#spool?.seal(false);
    return this.#delivered(deadlineMs);
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #start(options: AuditLogOptions): Promise<void> {
    const live = this.#openSinks(options);
    const { client, ready } = await SpoolClient.open(
      {
        spoolDir: options.spoolDir,
        keyFile: options.keyFile,
        jsonlDir: options.jsonlDir,
        delivers: options.database !== undefined,
        maxSpoolBytes: this.#maxSpoolBytes,
        shareFromPercent: options.shareFromPercent,
        mode: this.#mode,
        files: options.files,
        live,
      },
      {
        onState: (state) => this.#seen(state),
        onGap: (dropped) => this.#gap(dropped),
        onWarning: (message) => this.#logger.warn({ detail: message }, 'audit spool warns'),
        onLost: (error) => this.#workerLost(error),
      },
    );
    this.#spool = client;
    this.signer = ready.signer;
    this.#seen(ready.state);
    const first = this.record(this.#heartbeatEvent());
    for (const event of openingEvents(ready)) this.note(event);
    await first;
    this.#heartbeat = this.#clock.every(HEARTBEAT_MS, () => void this.#beat()).unref();
    if (options.database !== undefined) {
      this.#deliverer = new Deliverer({
        url: options.database.url,
        spool: client,
        clock: options.clock,
        logger: options.logger,
        onRefused: (chain, reason, detail) => this.#refused(chain, reason, detail),
      });
      this.#startWitness(options.database.url, options);
    }
    await this.#startCheckpoints(options);
  }

  async #startCheckpoints(options: AuditLogOptions): Promise<void> {
    const { checkpoints: places, spoolDir, keyFile, database, clock, logger } = options;
    if (places === undefined) return;
    const spool = (): SpoolState | undefined => this.#state;
    const databaseUrl = database?.url;
    this.#checkpointer = await Checkpointer.start({
      places,
      spoolDir,
      keyFile,
      databaseUrl,
      clock,
      logger,
      spool,
    });
  }

  /** Started before the spool, which tells them what it finds. */
  #openSinks({ sinks, spoolDir, logger }: AuditLogOptions): SpoolWorkerOptions['live'] {
    if (sinks === undefined) return undefined;
    const { port1, port2 } = new MessageChannel();
    this.#sinks = new SinkClient({ spoolDir, settings: sinks, hostName: hostname() }, port2, logger);
    return { port: port1, backlogBytes: sinks.backlogBytes ?? DEFAULT_BACKLOG_BYTES };
  }

  #startWitness(url: string, { trustFile, clock, logger }: AuditLogOptions): void {
    const record = (event: AuditEventInput): Promise<Recorded> => this.record(event);
    const retention = trustFile === undefined ? [] : [retentionLook({ trustFile, clock, logger, record })];
    this.#witness = new Witness({ url, looks: [...retention, exportLook(record)], clock, logger });
    this.#witness.start();
  }

  #heartbeatEvent(others?: RecentHeads): AuditEventInput {
    const uptimeMs = this.#clock.monotonicMs() - this.#startedMs;
    return heartbeatOf({ uptimeMs, dropped: this.#dropped, state: this.#state, others });
  }

  /** Says that the chain lives, and countersigns the heads of others where the database shows them. */
  async #beat(): Promise<void> {
    const others = await this.#deliverer?.recentHeads(this.chainId);
    if (this.#closing === undefined) this.note(this.#heartbeatEvent(others));
  }

  #enqueue(input: AuditEventInput, schedule: () => void): Promise<Recorded> {
    if (this.#closing !== undefined || this.#lost !== undefined) {
      return Promise.reject(auditError('ERR_AUDIT_UNAVAILABLE', this.#lost ?? 'the audit log is closed'));
    }
    return new Promise((resolve, reject) => {
      const recordedMs = this.#clock.nowMs();
      const id = eventIdOf(input) ?? uuidv7(this.#clock);
      const item = spoolItem(input, id, recordedMs, this.#context);
      this.#pending.push({ input, id, recordedMs, item, resolve, reject });
      schedule();
    });
  }

  #scheduleSoon(): void {
    if (this.#pending.length >= MAX_GROUP_EVENTS) this.#schedule();
    // Real time even where a test owns the clock: it only says how long a write may be saved.
    else this.#noteTimer ??= systemClock.after(NOTE_DELAY_MS, () => this.#schedule());
  }

  /** The events of one turn of the loop go to the worker in one message. */
  #schedule(): void {
    this.#noteTimer?.cancel();
    this.#noteTimer = undefined;
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#sendPending();
    });
  }

  /** Does not wait for the groups before: the worker takes up what is there when a sync is done, without asking back. */
  #sendPending(): void {
    const spool = this.#spool;
    while (spool !== undefined && this.#pending.length > 0 && this.#groupsUnderWay < MAX_GROUPS_UNDER_WAY) {
      void this.#writeAndCount(spool, this.#pending.splice(0, MAX_GROUP_EVENTS));
    }
  }

  async #writeAndCount(spool: SpoolClient, group: readonly PendingEvent[]): Promise<void> {
    this.#groupsUnderWay += 1;
    try {
      await this.#writeGroup(spool, group);
    } catch (error) {
      for (const event of group) event.reject(error as Error);
    }
    // Only then has something been held back that is not waiting for company.
    if (this.#groupsUnderWay === MAX_GROUPS_UNDER_WAY) this.#schedule();
    this.#groupsUnderWay -= 1;
    this.#notify();
  }

  async #writeGroup(spool: SpoolClient, group: readonly PendingEvent[]): Promise<void> {
    const items = group.map((event) => event.item);
    const answer = await spool.append(this.chainId, items);
    if (answer.stale === true) {
      // The chain was replaced meanwhile: the same events again, encoded for the new one.
      const again = group.map((event) => ({
        ...event,
        item: spoolItem(event.input, event.id, event.recordedMs, this.#context),
      }));
      this.#pending.push(...again);
      this.#schedule();
      return;
    }
    if (answer.error !== undefined) {
      throw auditError('ERR_AUDIT_UNAVAILABLE', `the spool does not take events: ${answer.error}`, {
        retryable: true,
      });
    }
    for (const [index, event] of group.entries()) {
      const outcome = answer.outcomes[index];
      if (outcome === OUTCOME.overShare) {
        this.#shareRefusals += 1;
        event.reject(this.#overShare(event.item.principal ?? ''));
      } else if (outcome === OUTCOME.refused) {
        const limit = `the spool holds its ${this.#maxSpoolBytes} bytes`;
        event.reject(auditError('ERR_AUDIT_UNAVAILABLE', limit, { retryable: true }));
      } else {
        event.resolve({ event_id: event.id, seq: answer.seqs[index] ?? 0 });
      }
    }
  }

  #overShare(principal: string): Error {
    const text = `the spool nears its ${this.#maxSpoolBytes} bytes and ${principal} has used up its share`;
    return auditError('ERR_AUDIT_OVER_SHARE', text, { retryable: true });
  }

  #seen(state: SpoolState): void {
    const before = this.#state;
    this.#state = state;
    if (state.chain !== this.#context.chain) {
      this.#context = { chain: state.chain, origin: this.#origin, localAt: this.#localAt };
    }
    if (before?.failed === undefined && state.failed !== undefined) {
      this.#logger.error({ error: state.failed }, 'audit spool cannot be written; decisions are refused');
    } else if (before?.failed !== undefined && state.failed === undefined) {
      this.#logger.info('audit spool can be written again');
    }
    const [over] = state.overShare;
    if (over !== undefined && before?.overShare.length === 0) {
      const principals = state.overShare.map(({ principal, bytes }) => `${principal}: ${bytes} bytes`);
      this.#logger.warn(
        { spool_bytes: state.spoolBytes, max_spool_bytes: this.#maxSpoolBytes, principals },
        'audit spool nears its quota; decisions of principals over their share are refused',
      );
    } else if (over === undefined && before !== undefined && before.overShare.length > 0) {
      this.#logger.info('no principal is over its share of the audit spool any more');
    }
    if (state.unacknowledged > 0) this.#deliverer?.wake();
    this.#notify();
  }

  #gap(dropped: number): void {
    if (this.#dropped === 0) this.#logger.warn('audit spool is full; close events are dropped and counted');
    this.#dropped += dropped;
    this.note({ type: 'audit.gap', subject: {}, data: { dropped, reason: 'spool_full' } });
  }

  #workerLost(error: Error): void {
    this.#lost = messageOf(error);
    this.#logger.error({ error: this.#lost }, 'audit spool worker ended; decisions are refused');
    this.#notify();
  }

  async #refused(chain: string, reason: RefusalReason, detail: string): Promise<void> {
    const answer = await this.#spool?.refuse(chain);
    if (answer?.error !== undefined) {
      throw auditError('ERR_AUDIT_UNAVAILABLE', `a refused chain cannot be set aside: ${answer.error}`);
    }
    this.#refusedChains += 1;
    this.#logger.error(
      { chain, reason, detail },
      'audit database refuses a chain; its segments are set aside',
    );
    const { previous } = answer ?? {};
    this.note({
      type: 'audit.chain_break',
      subject: {},
      data: { reason, previous_chain: chain, previous_batch: previous?.batch, detail },
    });
  }

  #spoolStatus(state: SpoolState | undefined): AuditHealth['spool'] {
    if (this.#closing !== undefined || state === undefined) return 'closed';
    if (this.#lost !== undefined || state.failed !== undefined) return 'failed';
    return state.spoolBytes >= this.#maxSpoolBytes ? 'full' : 'ok';
  }

  #notify(): void {
    for (const watcher of this.#watchers) watcher();
  }

  /** Resolves true when `reached`, false after `deadlineMs`. */
  #until(reached: () => boolean, deadlineMs: number): Promise<boolean> {
    if (reached()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        this.#watchers.delete(watcher);
        timer.cancel();
        resolve(result);
      };
      const watcher = (): void => {
        if (reached()) finish(true);
      };
      const timer = this.#clock.after(deadlineMs, () => finish(false));
      this.#watchers.add(watcher);
    });
  }

  #written(): Promise<boolean> {
    return this.#until(
      () => this.#lost !== undefined || (this.#pending.length === 0 && this.#groupsUnderWay === 0),
      HEARTBEAT_MS,
    );
  }

  #delivered(deadlineMs: number): Promise<boolean> {
    return this.#until(() => {
      const state = this.#state;
      if (this.#lost !== undefined || state === undefined) return true;
      return state.unsealed === 0 && state.unacknowledged === 0 && state.unexported === 0;
    }, deadlineMs);
  }

  async #end(): Promise<void> {
    this.#heartbeat?.cancel();
    this.#schedule();
    await this.#written();
    await this.#spool?.seal(true).catch(() => undefined);
    // Without a spool there is nothing that they could still be told.
    const sinksClosed = this.#sinks?.close(this.#spool === undefined ? 0 : CLOSE_DELIVERY_MS);
    if (this.#deliverer !== undefined && this.#deliverer.status !== 'failing') {
      await this.#delivered(CLOSE_DELIVERY_MS);
    }
    await this.#checkpointer?.stop(CLOSE_CHECKPOINT_MS);
    await sinksClosed;
    await this.#witness?.stop();
    await this.#deliverer?.stop();
    await this.#spool?.close().catch((error: unknown) => {
      this.#logger.warn({ error: messageOf(error) }, 'audit spool did not close');
    });
    await this.#lock?.release();
  }
}
