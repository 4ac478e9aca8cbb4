import { agentSubjectIds, connectionSubjectId, subjectIdOf } from '../identity/index.ts';
import { type Clock, type Logger, messageOf, type Timer } from '../runtime/index.ts';
import type { Enforcement, Revocation, StoredRevocation } from './records.ts';

/** A revocation as read; `wait_ms` is how long until it is in force, by the clock of Postgres. */
export interface RevocationRow extends StoredRevocation {
  readonly wait_ms: number;
}

/** Longest single timer: timers of Node overflow after 24.8 days, and a key may retire in 90. */
const LONGEST_TIMER_MS = 60 * 60 * 1000;

/** Every revocation heard, and the keys, agents and connections that are dead by them. Grows only: what was heard is final. */
export class RevocationSet {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #enforced: (revocation: Revocation, enforcement: Enforcement, ms: number) => void;
  readonly #calls: ((revocation: Revocation) => Enforcement | undefined)[] = [];
  readonly #heard = new Map<string, StoredRevocation>();
  readonly #missing = new Set<string>();
  /** By the id of the subject. */
  readonly #dead = new Map<string, Revocation>();
  readonly #timers = new Set<Timer>();

  /** `enforced` is told what the calls took, when one of them said so. */
  constructor(
    clock: Clock,
    logger: Logger,
    enforced: (revocation: Revocation, enforcement: Enforcement, ms: number) => void,
  ) {
    this.#clock = clock;
    this.#logger = logger;
    this.#enforced = enforced;
  }

  onRevoked(call: (revocation: Revocation) => Enforcement | undefined): void {
    this.#calls.push(call);
  }

  inForce(keyId: string): Revocation | undefined {
    return this.#dead.get(keyId);
  }

  /** For an installation of an agent: its own revocation, or that of its name. */
  agentInForce(name: string, instance: string): Revocation | undefined {
    const [everywhere, here] = agentSubjectIds(name, instance);
    return this.#dead.get(everywhere) ?? this.#dead.get(here);
  }

  connectionInForce(id: string): Revocation | undefined {
    return this.#dead.get(connectionSubjectId(id));
  }

  allInForce(): readonly Revocation[] {
    return [...this.#dead.values()];
  }

  /** Takes what was read when nothing could be live yet: things die without calls. */
  seed(rows: readonly RevocationRow[]): void {
    for (const row of rows) this.#take(row, false);
  }

  /** Takes what was read; what dies by it is reported before this returns. */
  add(rows: readonly RevocationRow[]): void {
    for (const row of rows) this.#take(row, true);
  }

  /** Compares with a full read: what Postgres has lost stays in force here, with an alarm. Answers it. */
  compare(rows: readonly RevocationRow[]): readonly StoredRevocation[] {
    const read = new Set(rows.map((row) => row.revocation_id));
    const lost = [...this.#heard.values()].filter((row) => !read.has(row.revocation_id));
    for (const row of lost) {
      const { revocation_id } = row;
      if (this.#missing.has(revocation_id)) continue;
      this.#missing.add(revocation_id);
      this.#logger.error(
        { revocation_id, subject: subjectIdOf(row) },
        'a revocation is gone from the control database; it stays in force here and is written back',
      );
    }
    return lost;
  }

  stop(): void {
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
  }

  #take(row: RevocationRow, report: boolean): void {
    if (this.#heard.has(row.revocation_id)) return;
    this.#heard.set(row.revocation_id, row);
    const { revocation_id, key_id, agent, instance, connection_id, kind, reason } = row;
    const revocation: Revocation = { revocation_id, key_id, agent, instance, connection_id, kind, reason };
    if (row.wait_ms > 0)
      this.#at(this.#clock.monotonicMs() + row.wait_ms, () => this.#kill(revocation, true));
    else this.#kill(revocation, report);
  }

  #at(dueMs: number, call: () => void): void {
    const leftMs = dueMs - this.#clock.monotonicMs();
    if (leftMs <= 0) {
      call();
      return;
    }
    const timer = this.#clock
      .after(Math.min(leftMs, LONGEST_TIMER_MS), () => {
        this.#timers.delete(timer);
        this.#at(dueMs, call);
      })
      .unref();
    this.#timers.add(timer);
  }

  #kill(revocation: Revocation, report: boolean): void {
    // Everything dies once; a later revocation of what is dead cuts nothing, but is called and acknowledged too.
    const subject = subjectIdOf(revocation);
    if (!this.#dead.has(subject)) this.#dead.set(subject, revocation);
    if (!report) return;
    const startMs = this.#clock.monotonicMs();
    let total: Enforcement | undefined;
    for (const call of this.#calls) {
      try {
        const enforcement = call(revocation);
        if (enforcement === undefined) continue;
        total = {
          links: (total?.links ?? 0) + enforcement.links,
          streams: sumOf(total?.streams ?? null, enforcement.streams),
        };
      } catch (error) {
        // Not acknowledged: whoever revoked sees this node as pending.
        const fields = { revocation_id: revocation.revocation_id, cause: messageOf(error) };
        this.#logger.error(fields, 'revocation was not enforced');
        return;
      }
    }
    if (total !== undefined) this.#enforced(revocation, total, this.#clock.monotonicMs() - startMs);
  }
}

/** A sum in which null means that nobody knows. */
export const sumOf = (left: number | null, right: number | null): number | null =>
  left === null ? right : right === null ? left : left + right;
