import type { AuditLog } from '../audit/index.ts';
import type { Revocation, RevocationFeed } from '../control/index.ts';
import { type Clock, type CloseReason, type Logger, messageOf } from '../runtime/index.ts';
import type { LinkBook } from './link-book.ts';
import type { HeldCredential, Login } from './login.ts';
import type { LoginBook } from './login-book.ts';

/** How long agents have to say how many streams they cut, before the answer goes without them. */
export const ACK_TIMEOUT_MS = 1_000;

export interface EnforcementOptions {
  readonly node: string;
  readonly namespace: string;
  readonly links: LinkBook;
  readonly logins: LoginBook;
  readonly feed: Pick<RevocationFeed, 'acknowledge'>;
  readonly audit: Pick<AuditLog, 'note'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told how long the synchronous part took, seconds. */
  readonly observe: (seconds: number) => void;
}

/** Makes a revocation true on this node: pipes first, all in one tick, then credentials, then notices. */
export class RevocationEnforcement {
  readonly #options: EnforcementOptions;

  constructor(options: EnforcementOptions) {
    this.#options = options;
  }

  /** Synchronous up to the notices; acknowledges at once and again when agents have answered. */
  enforce(revocation: Revocation): undefined {
    const { clock, links, logins, feed, observe } = this.#options;
    const startedMs = clock.monotonicMs();
    const reason: CloseReason = revocation.kind;
    const cut = links.cutWhere((link) => link.isBoundTo(revocation.key_id), reason);
    const emptied = this.#dropCredentials(revocation.key_id, reason);
    const ms = clock.monotonicMs() - startedMs;
    observe(ms / 1000);
    const told = logins.connected();
    const since = new Date(clock.nowMs()).toISOString();
    const pendingAgents = told.filter(({ role }) => role === 'agent').map(({ name }) => ({ name, since }));
    feed.acknowledge(revocation.revocation_id, { links: cut, streams: null, ms, pendingAgents });
    void this.#tell(revocation, told, emptied, cut, startedMs, since);
    return undefined;
  }

  #dropCredentials(keyId: string, reason: CloseReason): Login[] {
    const { logins } = this.#options;
    const emptied: Login[] = [];
    for (const login of logins.all()) {
      const held = [...login.credentials.values()].filter(({ verified }) => verified.key_id === keyId);
      for (const credential of held) this.#drop(login, credential, reason);
      if (held.length > 0 && login.credentials.size === 0) emptied.push(login);
    }
    return emptied;
  }

  #drop(login: Login, credential: HeldCredential, reason: CloseReason): void {
    this.#options.logins.drop(login, credential, reason);
  }

  async #tell(
    revocation: Revocation,
    told: readonly Login[],
    emptied: readonly Login[],
    links: number,
    startedMs: number,
    since: string,
  ): Promise<void> {
    const { clock, feed, logins } = this.#options;
    const pending = new Set(told.filter(({ role }) => role === 'agent'));
    let streams: number | null = null;
    const acknowledge = (): void => {
      const pendingAgents = [...pending].map(({ name }) => ({ name, since }));
      const ms = clock.monotonicMs() - startedMs;
      feed.acknowledge(revocation.revocation_id, { links, streams, ms, pendingAgents });
    };
    const answered = (login: Login, count: number | undefined): void => {
      if (!pending.delete(login)) return;
      streams = (streams ?? 0) + (count ?? 0);
    };
    await Promise.all(told.map((login) => this.#tellOne(revocation, login, answered)));
    this.#note(revocation, links, streams, clock.monotonicMs() - startedMs);
    acknowledge();
    // Only now: their notices and answers have travelled.
    for (const login of emptied) if (login.credentials.size === 0) logins.forget(login, revocation.kind);
  }

  async #tellOne(
    revocation: Revocation,
    login: Login,
    answered: (login: Login, count: number | undefined) => void,
  ): Promise<void> {
    const { channel } = login;
    const body = {
      key_id: revocation.key_id,
      reason: revocation.kind,
      revocation_id: revocation.revocation_id,
    };
    try {
      const answer = await channel?.request('revoked', body, ACK_TIMEOUT_MS);
      if (answer?.t === 'ack') answered(login, answer.body.streams);
    } catch (thrown) {
      this.#options.logger.warn(
        { login: login.name, revocation_id: revocation.revocation_id, detail: messageOf(thrown) },
        'revocation was not confirmed by a login',
      );
    }
  }

  #note(revocation: Revocation, links: number, streams: number | null, ms: number): void {
    const { audit, namespace, node } = this.#options;
    audit.note({
      type: 'revocation.enforced',
      subject: { namespace, relay: node, key_id: revocation.key_id },
      data: { revocation_id: revocation.revocation_id, reason: revocation.kind, links, streams, ms },
    });
  }
}
