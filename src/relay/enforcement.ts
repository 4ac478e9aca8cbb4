import type { AuditLog } from '../audit/index.ts';
import type { Revocation, RevocationFeed } from '../control/index.ts';
import { endsLink, isAgentSubject, noticeFieldsOf } from '../identity/index.ts';
import { type Clock, type CloseReason, type Logger, messageOf } from '../runtime/index.ts';
import { AnswerLedger } from './answer-ledger.ts';
import type { LinkBook } from './link-book.ts';
import type { HeldCredential, Login } from './login.ts';
import type { LoginBook } from './login-book.ts';

/** How long agents have to say how many streams they cut, before the answer goes without them. */
export const ACK_TIMEOUT_MS = 1_000;

/** An agent that did not answer is told again after this pause. */
export const RETELL_AFTER_MS = 1_000;
/** How long the answer may take then: nobody waits for it, and a far agent's takes longer than `ACK_TIMEOUT_MS`. */
export const RETOLD_ACK_TIMEOUT_MS = 15_000;
/** Revocations told again at one login, the newest: a tenth of what an agent keeps. */
export const MAX_RETOLD = 10_000;

export interface EnforcementOptions {
  readonly node: string;
  readonly namespace: string;
  readonly links: LinkBook;
  readonly logins: LoginBook;
  readonly feed: Pick<RevocationFeed, 'acknowledge'>;
  readonly audit: Pick<AuditLog, 'note'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told how long the last pipe took to be cut, seconds. */
  readonly observe: (seconds: number) => void;
}

/** True for logins of the agent that is dead. */
const isOf = (revocation: Revocation, { role, name, instance }: Login): boolean =>
  role === 'agent' && isAgentSubject(revocation, name, instance);

const endsCredential = (revocation: Revocation, login: Login, { verified }: HeldCredential): boolean => {
  if (revocation.key_id !== null) return verified.key_id === revocation.key_id;
  if (revocation.agent !== null) return isOf(revocation, login);
  return verified.connection_id === revocation.connection_id;
};

/** Whom it is told: everybody; of a dead agent the gateways, which cut its links at other nodes, and itself. */
const concerns = (revocation: Revocation, login: Login): boolean =>
  revocation.agent === null || login.role === 'gateway' || isOf(revocation, login);

/** Makes a revocation true on this node: pipes first, all in one tick, then credentials, then notices. */
export class RevocationEnforcement {
  readonly #options: EnforcementOptions;
  readonly #ledger: AnswerLedger;

  constructor(options: EnforcementOptions) {
    this.#options = options;
    this.#ledger = new AnswerLedger(options);
  }

  /**
   * Synchronous up to the notices; acknowledges when the last pipe is cut, and again as agents answer, however late.
   */
  enforce(revocation: Revocation): undefined {
    const { clock, links, logins, observe } = this.#options;
    const startedMs = clock.monotonicMs();
    const reason: CloseReason = revocation.kind;
    const cut = links.cutWhere((link) => endsLink(revocation, link.standing), reason);
    const emptied = this.#dropCredentials(revocation);
    const told = logins.connected().filter((login) => concerns(revocation, login));
    this.#ledger.open(revocation, cut, told);
    const enforced = (): void => {
      const ms = clock.monotonicMs() - startedMs;
      observe(ms / 1000);
      this.#ledger.enforced(revocation, ms);
    };
    const settled = links.settled();
    if (settled === undefined) enforced();
    void this.#tell(revocation, told, emptied, startedMs, settled?.then(enforced));
    return undefined;
  }

  /** Tells an agent that logged in what it may have missed; does not wait for it. */
  catchUp(login: Login, inForce: readonly Revocation[]): void {
    // It is not revoked itself, or it would not be here; what other agents are is none of its business.
    const told = inForce.filter((revocation) => concerns(revocation, login));
    if (login.role !== 'agent' || told.length === 0) return;
    // Ids rise with time. The newest first: those are the keys that links may still stand on.
    const newest = told
      .toSorted((left, right) => (left.revocation_id < right.revocation_id ? 1 : -1))
      .slice(0, MAX_RETOLD);
    if (newest.length < told.length)
      this.#options.logger.warn(
        { agent: login.name, revocations: told.length, limit: MAX_RETOLD },
        'an agent is told the newest revocations only',
      );
    void this.#retell(login, newest);
  }

  /** Takes off every login what died; answers those that are over by it. */
  #dropCredentials(revocation: Revocation): Login[] {
    const { logins } = this.#options;
    const emptied: Login[] = [];
    for (const login of logins.all()) {
      const held = [...login.credentials.values()].filter((one) => endsCredential(revocation, login, one));
      for (const credential of held) logins.drop(login, credential, revocation.kind);
      if (isOf(revocation, login) || (held.length > 0 && login.credentials.size === 0)) emptied.push(login);
    }
    return emptied;
  }

  async #tell(
    revocation: Revocation,
    told: readonly Login[],
    emptied: readonly Login[],
    startedMs: number,
    enforced: Promise<void> | undefined,
  ): Promise<void> {
    const { clock, logger, logins } = this.#options;
    const silent: Login[] = [];
    const tellOne = async (login: Login): Promise<void> => {
      try {
        await this.#request(login, revocation, false);
      } catch (thrown) {
        // A dead agent's answer is not owed: its login ends in a moment, and its links have.
        if (isOf(revocation, login)) this.#ledger.excuse(revocation.revocation_id, login);
        else if (login.role === 'agent') silent.push(login);
        logger.warn(
          { login: login.name, revocation_id: revocation.revocation_id, detail: messageOf(thrown) },
          'revocation was not confirmed by a login',
        );
      }
    };
    await Promise.all([enforced, ...told.map(tellOne)]);
    const ms = clock.monotonicMs() - startedMs;
    const { links, streams } = this.#ledger.settle(revocation, ms);
    this.#note(revocation, links, streams, ms);
    // Only now: their notices and answers have travelled.
    for (const login of emptied) if (login.credentials.size === 0) logins.forget(login, revocation.kind);
    for (const login of silent) void this.#retell(login, [revocation]);
  }

  /** One after the other, each until it is answered or the control link is gone: the next login begins anew. */
  async #retell(login: Login, revocations: readonly Revocation[]): Promise<void> {
    const { clock, logger } = this.#options;
    const { channel } = login;
    for (const revocation of revocations) {
      for (;;) {
        if (channel === undefined || login.channel !== channel) return;
        try {
          await this.#request(login, revocation, true);
          break;
        } catch (thrown) {
          logger.debug({ login: login.name, detail: messageOf(thrown) }, 'revocation is told again');
          await new Promise<void>((resolve) => clock.after(RETELL_AFTER_MS, resolve).unref());
        }
      }
    }
  }

  async #request(login: Login, revocation: Revocation, again: boolean): Promise<void> {
    const { kind, revocation_id } = revocation;
    const subject = noticeFieldsOf(revocation);
    const body = { ...subject, reason: kind, revocation_id, ...(again ? { again } : {}) };
    const timeoutMs = again ? RETOLD_ACK_TIMEOUT_MS : ACK_TIMEOUT_MS;
    const answer = await login.channel?.request('revoked', body, timeoutMs);
    if (login.role === 'agent' && answer?.t === 'ack')
      this.#ledger.answered(revocation_id, login, answer.body.streams ?? 0);
  }

  #note(revocation: Revocation, links: number, streams: number | null, ms: number): void {
    const { audit, namespace, node } = this.#options;
    const { key_id, agent, connection_id } = revocation;
    audit.note({
      type: 'revocation.enforced',
      subject: {
        namespace,
        relay: node,
        ...(key_id === null ? {} : { key_id }),
        ...(agent === null ? {} : { agent }),
        ...(connection_id === null ? {} : { connection_id }),
      },
      data: { revocation_id: revocation.revocation_id, reason: revocation.kind, links, streams, ms },
    });
  }
}
