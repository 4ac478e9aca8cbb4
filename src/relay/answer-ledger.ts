import type { Revocation, RevocationFeed } from '../control/index.ts';
import type { Clock } from '../runtime/index.ts';
import type { Login } from './login.ts';
import type { LoginBook } from './login-book.ts';

/** Revocations that wait for agents at one node; the oldest then wait no longer and stay pending. */
const MAX_WAITING = 10_000;

interface Entry {
  readonly links: number;
  readonly since: string;
  /** Agents that have not answered: name by instance. */
  readonly pending: Map<string, string>;
  streams: number | null;
  ms: number;
  /** False while a pipe of it may still move a byte: nothing is acknowledged before. */
  isEnforced: boolean;
  /** The first answers are acknowledged together, later ones each. */
  isSettled: boolean;
}

export interface AnswerLedgerOptions {
  readonly feed: Pick<RevocationFeed, 'acknowledge'>;
  readonly logins: LoginBook;
  readonly clock: Clock;
}

/** Who has yet to confirm which revocation, acknowledged to the control database as it changes. */
export class AnswerLedger {
  readonly #options: AnswerLedgerOptions;
  readonly #entries = new Map<string, Entry>();

  constructor(options: AnswerLedgerOptions) {
    this.#options = options;
  }

  /** Being enforced here, where it cut so many links, and told to `told`; every agent among them is pending. */
  open({ revocation_id: id }: Revocation, links: number, told: readonly Login[]): void {
    const agents = told.filter(({ role }) => role === 'agent');
    const entry: Entry = {
      links,
      ms: 0,
      since: new Date(this.#options.clock.nowMs()).toISOString(),
      pending: new Map(agents.map(({ instance, name }) => [instance, name])),
      streams: null,
      isEnforced: false,
      isSettled: false,
    };
    const oldest = this.#entries.keys().next().value;
    if (this.#entries.size >= MAX_WAITING && oldest !== undefined) this.#entries.delete(oldest);
    this.#entries.set(id, entry);
  }

  /** The last pipe was cut, so long after the node learned of it: acknowledged. */
  enforced({ revocation_id: id }: Revocation, ms: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    entry.isEnforced = true;
    entry.ms = ms;
    this.#acknowledge(id, entry);
  }

  /** An agent confirmed, after cutting so many streams. */
  answered(id: string, login: Login, streams: number): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    const { logins } = this.#options;
    const present = new Set(logins.all().map(({ instance }) => instance));
    let isChanged = false;
    for (const [instance, name] of entry.pending) {
      // An earlier run of the same agent answers no more; the run that took its place does.
      const isOver = name === login.name && !present.has(instance);
      if (instance === login.instance || isOver) isChanged = entry.pending.delete(instance) || isChanged;
    }
    if (!isChanged) return;
    entry.streams = (entry.streams ?? 0) + streams;
    if (entry.isSettled) this.#acknowledge(id, entry);
  }

  /** No answer is waited for: the revocation ended the login itself. */
  excuse(id: string, login: Login): void {
    const entry = this.#entries.get(id);
    if (entry?.pending.delete(login.instance) === true && entry.isSettled) this.#acknowledge(id, entry);
  }

  /** The time for first answers is over. Answers what was cut, and acknowledges it. */
  settle({ revocation_id: id }: Revocation, ms: number): { links: number; streams: number | null } {
    const entry = this.#entries.get(id);
    if (entry === undefined) return { links: 0, streams: null };
    entry.ms = ms;
    entry.isSettled = true;
    this.#acknowledge(id, entry);
    return { links: entry.links, streams: entry.streams };
  }

  #acknowledge(id: string, { links, streams, ms, since, pending, isEnforced, isSettled }: Entry): void {
    if (!isEnforced) return;
    const pendingAgents = [...pending.values()].map((name) => ({ name, since }));
    this.#options.feed.acknowledge(id, { links, streams, ms, pendingAgents });
    if (isSettled && pending.size === 0) this.#entries.delete(id);
  }
}
