import { type AuthenticatedPeer, type LinkOffer, Session, type SessionStats } from '../protocol/index.ts';
import { type Clock, type CloseReason, isCloseReason, type TimerWheel } from '../runtime/index.ts';

/** How long the relay's word on why a link ended is waited for (protocol.md, Revocation on the pipe). */
export const END_NOTICE_MS = 1_000;

/** Notices after which nothing may move any more; others let what is under way arrive. */
const FORCED_ENDS: ReadonlySet<CloseReason> = new Set<CloseReason>([
  'key_revoked',
  'key_rotated',
  'token_expired',
  'identity_revoked',
  'identity_expired',
  'auth_rule_removed',
  'connection_removed',
  'not_authorized',
  'admin_closed',
  'node_fenced',
]);

export interface GatewayLinkEvents {
  /** The other end or the relay lets it serve no new streams. */
  onGoAway(link: GatewayLink): void;
  onEnd(link: GatewayLink): void;
}

/** One live data link of the gateway to one agent. */
export class GatewayLink {
  readonly offer: LinkOffer;
  readonly session: Session;
  readonly openedMs: number;
  readonly #clock: Clock;
  readonly #wheel: TimerWheel;
  /** When it last carried a stream. */
  #usedMs: number;
  #isRetiring = false;
  #endReason: CloseReason | undefined;
  #isEnded = false;
  #isEndKnown = false;
  #waiting: ((reason: CloseReason) => void)[] = [];

  constructor(peer: AuthenticatedPeer, clock: Clock, wheel: TimerWheel, events: GatewayLinkEvents) {
    this.offer = peer.offer;
    this.#clock = clock;
    this.#wheel = wheel;
    this.openedMs = clock.monotonicMs();
    this.#usedMs = this.openedMs;
    this.session = new Session(peer, { clock });
    this.session.onGoAway(() => events.onGoAway(this));
    this.session.onEnd(({ reason }) => {
      this.#isEnded = true;
      if (reason !== 'link_lost') this.#endReason ??= reason;
      events.onEnd(this);
      if (this.#endReason !== undefined) this.#knowEnd();
      // After a turn of the loop: a notice that has come while the process was busy is read first.
      else wheel.after(END_NOTICE_MS, () => setImmediate(() => this.#knowEnd()));
    });
  }

  get id(): string {
    return this.offer.link_id;
  }

  get node(): string {
    return this.offer.node;
  }

  /** The agent process at the other end. */
  get instance(): string {
    return this.offer.peer.instance;
  }

  /** Whether a stream can be opened now. */
  get isOpenable(): boolean {
    return !this.#isRetiring && !this.#isEnded && this.session.openable;
  }

  get isRetiring(): boolean {
    return this.#isRetiring;
  }

  stats(): SessionStats {
    return this.session.stats();
  }

  touch(): void {
    this.#usedMs = this.#clock.monotonicMs();
  }

  /** How long it has carried no stream. */
  idleMs(): number {
    if (this.session.streamCount > 0) this.touch();
    return this.#clock.monotonicMs() - this.#usedMs;
  }

  /** Serves its streams out and takes no new ones. */
  retire(reason: CloseReason, deadlineMs: number): void {
    if (this.#isRetiring) return;
    this.#isRetiring = true;
    this.session.goAway(reason, deadlineMs);
  }

  /** Resets every application socket on it in this tick. */
  cut(reason: CloseReason): void {
    this.#endReason ??= reason;
    this.session.destroy(reason);
  }

  /** The relay says why it ended the link: before, after or without our noticing. */
  onClosedNotice(text: string): void {
    const reason = isCloseReason(text) ? text : 'internal';
    if (this.#isEndKnown) return;
    this.#endReason ??= reason;
    if (this.#isEnded) this.#knowEnd();
    else if (FORCED_ENDS.has(reason)) this.session.destroy(reason);
    else this.#wheel.after(END_NOTICE_MS, () => this.session.destroy(reason));
  }

  /** Calls back with the reason to record for a stream that this link's end took down: at once when known. */
  whenEndKnown(call: (reason: CloseReason) => void): void {
    if (this.#isEndKnown) call(this.#endReason ?? 'link_lost');
    else this.#waiting.push(call);
  }

  #knowEnd(): void {
    if (this.#isEndKnown) return;
    this.#isEndKnown = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const call of waiting) call(this.#endReason ?? 'link_lost');
  }
}
