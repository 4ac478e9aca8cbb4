import { AppError, type Clock, type Logger, messageOf, type Timer } from '../runtime/index.ts';
import { CHANNEL } from './context.ts';
import type { Database } from './database.ts';
import type { ControlErrorCode } from './errors.ts';
import { EVERYTHING, HintPump, type Hints } from './hint-pump.ts';
import { ListenConnection } from './listen-connection.ts';
import type { Acknowledgement, Enforcement, Revocation, StoredRevocation } from './records.ts';
import { acknowledgeRevocation } from './revocation-ack.ts';
import type { RevocationLog } from './revocation-log.ts';
import { type RevocationRow, RevocationSet } from './revocation-set.ts';

/** A query on the LISTEN connection goes out this often. */
const HEARTBEAT_MS = 3_000;
/** Everything is read again this often, whatever was or was not notified. */
const FULL_READ_MS = 30_000;
/** Pauses between attempts to connect: well below the fence. */
const RETRY_MS = [50, 250, 1_000, 2_000] as const;

/** A connection was created, changed or deleted. */
export interface ConnectionChange {
  readonly name: string;
  readonly id: string;
  readonly change: 'set' | 'gone';
}

/**
 * The node's own copy of every revocation. LISTEN first, then a full read; a notification is only a hint and
 * the full read is repeated. What was heard once is never forgotten by this process, nor, with a
 * state directory, by this node.
 */
export interface RevocationFeed {
  start(): void;
  stop(): Promise<void>;
  /** Resolves after the first full read. */
  readonly firstSync: Promise<void>;
  /** The revocation of this key that is in force, if any; synchronous, for the tick that registers a use. */
  isRevoked(keyId: string): Revocation | undefined;
  /** The revocation of this agent's name, or of this installation of it. */
  isAgentRevoked(name: string, instance: string): Revocation | undefined;
  /** The revocation by which this connection was removed. */
  isConnectionRemoved(connectionId: string): Revocation | undefined;
  /** Every revocation in force, one of each subject, in no order; for an agent that may have missed some. */
  allInForce(): readonly Revocation[];
  /**
   * Called synchronously, once per key, agent or connection that dies, in the tick that learns it. What it returns is
   * acknowledged at once; when it returns nothing the caller acknowledges later.
   */
  onRevoked(call: (revocation: Revocation) => Enforcement | undefined): void;
  onConnectionChanged(call: (change: ConnectionChange) => void): void;
  /**
   * Monotonic time of sending of the last query that was answered on a LISTEN connection after its full read;
   * -Infinity: none.
   */
  lastHeardMonotonicMs(): number;
  /** May be repeated as agents answer; the last one counts. Failures are retried with the next full read. */
  acknowledge(revocationId: string, acknowledgement: Acknowledgement): void;
}

export interface FeedOptions {
  /** A direct connection: LISTEN does not work through a transaction pooler. */
  readonly listenUrl: string;
  readonly database: Database;
  readonly namespace: string;
  readonly node: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Runs on a fresh LISTEN connection before the first read; its failure is a failed attempt. */
  readonly prepare: () => Promise<void>;
  /** Keys of a connection changed; undefined: of anything (after a full read). */
  readonly onKeysChanged: (connection: string | undefined) => void;
  /** Someone acknowledged this revocation. */
  readonly onAcknowledged: (revocationId: string) => void;
  /** The node's durable copy; absent: memory alone. */
  readonly log?: RevocationLog;
  /** Writes back what the database has lost. */
  readonly republish: (lost: readonly StoredRevocation[]) => Promise<number>;
  /** Something was changed, so the outbox may hold events. */
  readonly onChanged: () => void;
}

interface ConnectionVersion {
  readonly name: string;
  readonly id: string;
  readonly version: number;
}

const utc = (column: string): string =>
  `to_char(${column} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as ${column}`;

const REVOCATIONS = `select revocation_id, key_id, agent, instance, kind, reason, connection, connection_id, auth_rule, slot, actor,
    ${utc('created_at')}, ${utc('effective_at')},
    greatest(0, extract(epoch from effective_at - clock_timestamp()) * 1000)::float8 as wait_ms
  from control.revocation where namespace = $1`;

/** RevocationFeed over a LISTEN connection of its own, kept up for ever. */
export class PostgresRevocationFeed implements RevocationFeed {
  readonly firstSync: Promise<void>;
  readonly #options: FeedOptions;
  readonly #set: RevocationSet;
  readonly #connectionCalls: ((change: ConnectionChange) => void)[] = [];
  readonly #connections = new Map<string, ConnectionVersion>();
  readonly #acks = new Map<string, Acknowledgement>();
  readonly #sending = new Set<string>();
  readonly #stopping = new AbortController();
  #resolveFirstSync: () => void = () => undefined;
  #lastHeardMs = Number.NEGATIVE_INFINITY;
  /** When the last query was sent that the connection answered, be it before or after the full read. */
  #answeredMs = Number.NEGATIVE_INFINITY;
  #listening = false;
  #synced = false;
  #running: Promise<void> | undefined;
  #isWritingBack = false;
  #wake: () => void = () => undefined;
  #disconnect: (why: string) => void = () => undefined;

  constructor(options: FeedOptions) {
    this.#options = options;
    this.#set = new RevocationSet(options.clock, options.logger, (revocation, enforcement, ms) =>
      this.acknowledge(revocation.revocation_id, { ...enforcement, ms }),
    );
    const nowMs = options.clock.nowMs();
    this.#set.seed(
      (options.log?.rows ?? []).map((row) => ({ ...row, wait_ms: Date.parse(row.effective_at) - nowMs })),
    );
    this.firstSync = new Promise((resolve) => {
      this.#resolveFirstSync = resolve;
    });
  }

  /** True while the LISTEN connection is up and has been read in full. */
  get listening(): boolean {
    return this.#listening;
  }

  /** True after the first full read, for ever. */
  get synced(): boolean {
    return this.#synced;
  }

  isRevoked(keyId: string): Revocation | undefined {
    return this.#set.inForce(keyId);
  }

  isAgentRevoked(name: string, instance: string): Revocation | undefined {
    return this.#set.agentInForce(name, instance);
  }

  isConnectionRemoved(connectionId: string): Revocation | undefined {
    return this.#set.connectionInForce(connectionId);
  }

  allInForce(): readonly Revocation[] {
    return this.#set.allInForce();
  }

  onRevoked(call: (revocation: Revocation) => Enforcement | undefined): void {
    this.#set.onRevoked(call);
  }

  onConnectionChanged(call: (change: ConnectionChange) => void): void {
    this.#connectionCalls.push(call);
  }

  lastHeardMonotonicMs(): number {
    return this.#lastHeardMs;
  }

  acknowledge(revocationId: string, acknowledgement: Acknowledgement): void {
    this.#acks.set(revocationId, acknowledgement);
    void this.#sendAcks(revocationId);
  }

  start(): void {
    this.#running ??= this.#keepConnected();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#wake();
    this.#disconnect('stopping');
    this.#set.stop();
    await this.#running;
    this.#options.log?.save();
  }

  async #keepConnected(): Promise<void> {
    const { logger } = this.#options;
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt += 1) {
      const retryMs = RETRY_MS[Math.min(attempt, RETRY_MS.length - 1)] ?? 0;
      try {
        await this.#listenOnce(() => {
          attempt = 0;
        });
      } catch (error) {
        const level = attempt === RETRY_MS.length ? 'warn' : 'debug';
        logger[level]({ cause: messageOf(error) }, 'control database does not answer; trying on');
      }
      this.#listening = false;
      await this.#pause(retryMs);
    }
  }

  async #pause(delayMs: number): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(delayMs, resolve);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  /** One life of the LISTEN connection; throws when it is over before `stop`. */
  async #listenOnce(onUp: () => void): Promise<void> {
    const { clock, logger } = this.#options;
    const connection = new ListenConnection(this.#options.listenUrl, clock, (sentMs) => {
      this.#answeredMs = sentMs;
      if (this.#listening) this.#lastHeardMs = sentMs;
    });
    this.#disconnect = (why) => connection.destroy(why);
    const timers: Timer[] = [];
    try {
      await connection.open();
      const pump = new HintPump(this.#options, (hints) => this.#read(connection, hints));
      connection.onNotification((payload) => pump.hint(payload));
      await connection.ask(`listen ${CHANNEL}`);
      await this.#options.prepare();
      await this.#read(connection, EVERYTHING);
      this.#listening = true;
      onUp();
      logger.info('control database is heard');
      // Hints that came during the first read name what that read may not have seen.
      pump.open((error) => connection.destroy(messageOf(error)));
      timers.push(clock.every(HEARTBEAT_MS, () => connection.beat()).unref());
      timers.push(clock.every(FULL_READ_MS, () => pump.hint('everything')).unref());
      const why = await connection.ended;
      if (!this.#stopping.signal.aborted)
        throw new AppError<ControlErrorCode>('ERR_CONTROL_UNAVAILABLE', `LISTEN connection lost: ${why}`);
    } finally {
      for (const timer of timers) timer.cancel();
      connection.destroy('over');
      this.#disconnect = () => undefined;
    }
  }

  async #read(connection: ListenConnection, hints: Hints): Promise<void> {
    const { namespace, onKeysChanged } = this.#options;
    if (hints.everything) {
      const rows = await connection.ask<RevocationRow>(`${REVOCATIONS} order by revocation_id`, [namespace]);
      if (this.#synced) this.#set.add(rows);
      else this.#set.seed(rows);
      this.#options.log?.add(rows);
      void this.#writeBack(this.#set.compare(rows));
    } else if (hints.revocations.length > 0) {
      const values = [namespace, hints.revocations];
      const rows = await connection.ask<RevocationRow>(`${REVOCATIONS} and revocation_id = any($2)`, values);
      this.#set.add(rows);
      this.#options.log?.add(rows);
    }
    if (hints.everything || hints.connections)
      this.#compareConnections(await this.#readConnections(connection));
    if (!hints.everything) return;
    onKeysChanged(undefined);
    // Not before: what was revoked while nobody listened is known only now, and the fence opens by this.
    this.#lastHeardMs = this.#answeredMs;
    this.#synced = true;
    this.#resolveFirstSync();
    for (const id of this.#acks.keys()) void this.#sendAcks(id);
  }

  /** Failures are tried again with the next full read. */
  async #writeBack(lost: readonly StoredRevocation[]): Promise<void> {
    if (lost.length === 0 || this.#isWritingBack) return;
    this.#isWritingBack = true;
    const { logger, republish } = this.#options;
    try {
      const written = await republish(lost);
      logger.warn({ written }, 'revocations that the control database had lost were written back');
    } catch (error) {
      logger.warn({ cause: messageOf(error) }, 'lost revocations not written back yet');
    } finally {
      this.#isWritingBack = false;
    }
  }

  async #readConnections(connection: ListenConnection): Promise<readonly ConnectionVersion[]> {
    return connection.ask<ConnectionVersion>(
      'select name, id, version from control.connection where namespace = $1',
      [this.#options.namespace],
    );
  }

  #compareConnections(rows: readonly ConnectionVersion[]): void {
    const changes: ConnectionChange[] = [];
    const read = new Map(rows.map((row) => [row.name, row]));
    for (const [name, known] of this.#connections)
      if (read.get(name)?.id !== known.id) changes.push({ name, id: known.id, change: 'gone' });
    for (const row of rows) {
      const known = this.#connections.get(row.name);
      if (known?.id !== row.id || known.version !== row.version)
        changes.push({ name: row.name, id: row.id, change: 'set' });
    }
    this.#connections.clear();
    for (const row of rows) this.#connections.set(row.name, row);
    for (const change of changes) {
      this.#options.onKeysChanged(change.name);
      for (const call of this.#connectionCalls) call(change);
    }
  }

  /** Writes the last word on a revocation, one write at a time: an earlier word must not land after it. */
  async #sendAcks(revocationId: string): Promise<void> {
    if (this.#sending.has(revocationId)) return;
    this.#sending.add(revocationId);
    const { database, node, logger } = this.#options;
    try {
      for (;;) {
        const acknowledgement = this.#acks.get(revocationId);
        if (acknowledgement === undefined) return;
        await acknowledgeRevocation(database, node, revocationId, acknowledgement);
        if (this.#acks.get(revocationId) === acknowledgement) this.#acks.delete(revocationId);
      }
    } catch (error) {
      logger.warn(
        { revocation_id: revocationId, cause: messageOf(error) },
        'acknowledgement not written yet',
      );
    } finally {
      this.#sending.delete(revocationId);
    }
  }
}
