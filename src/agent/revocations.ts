import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { subjectIdOf, subjectOfNotice } from '../identity/index.ts';
import {
  AppError,
  type Clock,
  type CloseReason,
  foreignCodeOf,
  isCloseReason,
  type Logger,
  messageOf,
  writeFileAtomically,
} from '../runtime/index.ts';
import type { AgentErrorCode } from './errors.ts';

/** Revocations that one agent keeps. When it has as many it serves nothing: the next one could not be kept. */
export const MAX_REVOCATIONS = 100_000;
/** The log warns from here on. */
const ALMOST_FULL = 90_000;
/** A notice is kept this long after a node last told it. */
export const KEPT_MS = 30 * 24 * 60 * 60 * 1_000;
/** What a node tells at one login at most (the relay's bound); a login at which so many came may have left some out. */
export const MAX_TOLD_AT_LOGIN = 10_000;
/** A time of telling is written again when it moved by this: it is told at every login. */
const REWRITE_AFTER_MS = 24 * 60 * 60 * 1_000;
const FILE_NAME = 'revocations.json';

const entrySchema = z.object({
  /** Empty when it is about an agent or a connection. */
  key_id: z.string(),
  agent: z.string().optional(),
  instance: z.string().optional(),
  connection_id: z.string().optional(),
  reason: z.string(),
  revocation_id: z.string(),
  /** Which relay nodes told it. */
  nodes: z.array(z.string()),
  told_at_ms: z.number(),
  /** When a node last told it; absent: not again since. */
  last_told_at_ms: z.number().optional(),
});
const fileSchema = z.object({ v: z.literal(1), revocations: z.array(entrySchema) });

/** A revocation as an agent keeps it: who told it, and when first. */
export type KeptRevocation = z.infer<typeof entrySchema>;

/** One notice as a relay node gives it. */
export interface RevocationNotice {
  readonly key_id: string;
  readonly agent?: string | undefined;
  readonly instance?: string | undefined;
  readonly connection_id?: string | undefined;
  readonly reason: string;
  readonly revocation_id: string;
}

/** The id of what a kept revocation or a notice ends, as `subjectIdOf` makes it. */
export const revokedIdOf = (notice: RevocationNotice): string => subjectIdOf(subjectOfNotice(notice));

/**
 * The union of every revocation that any node ever told, kept in `state_dir` over restarts: the agent's own
 * enforcement point, asked in the tick that registers a link or a stream.
 */
export class RevocationSet {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #entries = new Map<string, KeptRevocation>();
  #isSavePending = false;
  /** Heard when there was no room, and not answered: a node tells them again until they are kept. */
  readonly #unkept = new Set<string>();
  /** Times of telling that are not on disk; losing them keeps a notice for a shorter time, never a dead key alive. */
  #isBehind = false;

  /** @throws AppError ERR_AGENT_STATE when the file is there but cannot be read: starting without it would forget */
  constructor(stateDir: string, clock: Clock, logger: Logger) {
    this.#path = join(stateDir, FILE_NAME);
    this.#clock = clock;
    this.#logger = logger;
    for (const entry of readEntries(this.#path)) this.#entries.set(revokedIdOf(entry), entry);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** True when nothing may be served: a revocation could not be kept, or the next one could not. */
  get isFull(): boolean {
    return this.#entries.size >= MAX_REVOCATIONS || this.#unkept.size > 0;
  }

  /** Why the key, agent or connection of that id is dead; undefined when it is not. */
  reasonFor(id: string): CloseReason | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    return isCloseReason(entry.reason) ? entry.reason : 'key_revoked';
  }

  get(id: string): KeptRevocation | undefined {
    return this.#entries.get(id);
  }

  /** Every one, in the order in which they were heard. */
  all(): readonly KeptRevocation[] {
    return [...this.#entries.values()];
  }

  /** For a node that lied; durable on return. A node that still tells it is heard again. */
  forget(id: string): void {
    if (this.#entries.delete(id)) this.save();
  }

  /**
   * Drops what was last told `KEPT_MS` ago and was not in the last full telling, which began at the wall-clock time given:
   * a login at which the node has had the time to tell everything in force. Undefined: there was none, nothing is dropped.
   * @returns how many were dropped
   */
  expire(lastSyncMs: number | undefined): number {
    const dropped = lastSyncMs === undefined ? [] : this.#outlived(lastSyncMs);
    for (const id of dropped) this.#entries.delete(id);
    if (dropped.length > 0)
      this.#logger.info(
        { dropped: dropped.length, kept: this.#entries.size },
        'revocations dropped that no node has told for 30 days',
      );
    if (dropped.length > 0 || this.#isBehind) this.save();
    return dropped.length;
  }

  #outlived(lastSyncMs: number): readonly string[] {
    const nowMs = this.#clock.nowMs();
    const all = [...this.#entries].map(([id, entry]) => ({ id, lastMs: lastToldMs(entry) }));
    // A telling that reached its bound may have left out what is in force.
    if (all.filter(({ lastMs }) => lastMs >= lastSyncMs).length >= MAX_TOLD_AT_LOGIN) return [];
    return all.filter(({ lastMs }) => lastMs < lastSyncMs && nowMs - lastMs > KEPT_MS).map(({ id }) => id);
  }

  /**
   * Effective on return, durable soon after: `new` or `known`. `unkept` when there is no room: it must not be confirmed,
   * so that it is told again, and `isFull` holds until it was.
   */
  add(notice: RevocationNotice, node: string): 'new' | 'known' | 'unkept' {
    const id = revokedIdOf(notice);
    const known = this.#entries.get(id);
    const nowMs = this.#clock.nowMs();
    if (known !== undefined) {
      if (nowMs - lastToldMs(known) >= REWRITE_AFTER_MS) this.#isBehind = true;
      known.last_told_at_ms = nowMs;
      if (known.nodes.includes(node)) return 'known';
      known.nodes.push(node);
    } else {
      if (this.#entries.size >= MAX_REVOCATIONS) {
        if (!this.#unkept.has(id)) this.#tellFull(id);
        // Bounded too: beyond it one more or less changes nothing, all of them are told again.
        if (this.#unkept.size < MAX_TOLD_AT_LOGIN) this.#unkept.add(id);
        return 'unkept';
      }
      this.#unkept.delete(id);
      const { key_id, agent, instance, connection_id, reason, revocation_id } = notice;
      this.#entries.set(id, {
        key_id,
        ...(agent === undefined ? {} : { agent }),
        ...(instance === undefined ? {} : { instance }),
        ...(connection_id === undefined ? {} : { connection_id }),
        reason,
        revocation_id,
        nodes: [node],
        told_at_ms: nowMs,
      });
      if (this.#entries.size === ALMOST_FULL || this.#entries.size === MAX_REVOCATIONS) this.#tellFull(id);
    }
    this.#saveSoon();
    return known === undefined ? 'new' : 'known';
  }

  #tellFull(revoked: string): void {
    this.#logger.error(
      { revoked, kept: this.#entries.size, limit: MAX_REVOCATIONS },
      'this agent keeps nearly or quite as many revocations as it may; at the limit it serves nothing',
    );
  }

  /** Makes the set durable now. */
  save(): void {
    this.#isSavePending = false;
    this.#isBehind = false;
    try {
      const content = { v: 1, revocations: [...this.#entries.values()] };
      writeFileAtomically(this.#path, `${JSON.stringify(content)}\n`);
    } catch (error) {
      this.#logger.error(
        { err: messageOf(error) },
        'revocations could not be written; they hold in memory only',
      );
    }
  }

  /** Notices come in bursts and cutting comes first: one write after the burst. */
  #saveSoon(): void {
    if (this.#isSavePending) return;
    this.#isSavePending = true;
    setImmediate(() => {
      if (this.#isSavePending) this.save();
    });
  }
}

const lastToldMs = ({ told_at_ms, last_told_at_ms }: KeptRevocation): number => last_told_at_ms ?? told_at_ms;

const readEntries = (path: string): KeptRevocation[] => {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (foreignCodeOf(error) === 'ENOENT') return [];
    throw unreadable(path, error);
  }
  try {
    return fileSchema.parse(JSON.parse(text)).revocations;
  } catch (error) {
    throw unreadable(path, error);
  }
};

const unreadable = (path: string, cause: unknown): AppError<AgentErrorCode> =>
  new AppError<AgentErrorCode>(
    'ERR_AGENT_STATE',
    `the revocations in ${path} cannot be read (${foreignCodeOf(cause) ?? 'not the expected form'}): restore the file, or remove it to trust the relay alone`,
    { cause },
  );
