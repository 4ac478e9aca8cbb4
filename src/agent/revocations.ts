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

/** Revocations that one agent keeps; the oldest go first, with an alarm. */
export const MAX_REVOCATIONS = 100_000;
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

  /** Effective on return, durable soon after. True when the subject was not known as dead. */
  add(notice: RevocationNotice, node: string): boolean {
    const id = revokedIdOf(notice);
    const known = this.#entries.get(id);
    if (known?.nodes.includes(node) === true) return false;
    if (known !== undefined) {
      known.nodes.push(node);
    } else {
      const oldest = this.#entries.keys().next().value;
      if (this.#entries.size >= MAX_REVOCATIONS && oldest !== undefined) {
        this.#entries.delete(oldest);
        this.#logger.error(
          { revoked: oldest, limit: MAX_REVOCATIONS },
          'too many revocations: the oldest is forgotten',
        );
      }
      const { key_id, agent, instance, connection_id, reason, revocation_id } = notice;
      this.#entries.set(id, {
        key_id,
        ...(agent === undefined ? {} : { agent }),
        ...(instance === undefined ? {} : { instance }),
        ...(connection_id === undefined ? {} : { connection_id }),
        reason,
        revocation_id,
        nodes: [node],
        told_at_ms: this.#clock.nowMs(),
      });
    }
    this.#saveSoon();
    return known === undefined;
  }

  /** Makes the set durable now. */
  save(): void {
    this.#isSavePending = false;
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
