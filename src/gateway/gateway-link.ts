import {
  type AuthenticatedPeer,
  type CarrierKind,
  type LinkOffer,
  Session,
  type SessionStats,
} from '../protocol/index.ts';
import { type Clock, type CloseReason, isCloseReason, sleep, type TimerWheel } from '../runtime/index.ts';

/** How long the relay's word on why a link ended is waited for (protocol.md, Revocation on the pipe). */
export const END_NOTICE_MS = 1_000;

/**
 * A link over which nothing came for this long after an OPEN and a PING, or for this many of its round trips, is silent:
 * the node or the agent is frozen or out of reach. Proof of death takes longer (protocol.md, Liveness).
 */
export const SILENT_MS = 300;
const SILENT_ROUND_TRIPS = 4;
/** At most this long: what a link answers after it was frozen counts as round trips of many seconds. */
export const MAX_SILENT_MS = 3_000;
/** The same while its round trip is not known yet. */
const UNMEASURED_SILENT_MS = 1_000;
/** Then it is looked at once more: what came while this process was busy has been read by then. */
export const SILENT_AGAIN_MS = 100;

/** How long nothing may come over a link with this round trip before it is silent, milliseconds. */
export const silentAfterMs = (rttMs: number | undefined): number =>
  rttMs === undefined
    ? UNMEASURED_SILENT_MS
    : Math.min(MAX_SILENT_MS, Math.max(SILENT_MS, SILENT_ROUND_TRIPS * rttMs));

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
  /** How its bytes come to the node, and by which port. */
  readonly carrier: CarrierKind;
  readonly port: number;
  readonly openedMs: number;
  readonly #carrierClosed: Promise<void>;
  readonly #clock: Clock;
  readonly #wheel: TimerWheel;
  /** When it last carried a stream. */
  #usedMs: number;
  #isRetiring = false;
  /** Whether something is expected over the link and looked for. */
  #isWatched = false;
  /** Bytes that had come when it was found silent. */
  #silentAtBytes: number | undefined;
  #silentCalls = new Set<() => void>();
  #endReason: CloseReason | undefined;
  #isEnded = false;
  #isEndKnown = false;
  #waiting: ((reason: CloseReason) => void)[] = [];

  constructor(peer: AuthenticatedPeer, clock: Clock, wheel: TimerWheel, events: GatewayLinkEvents) {
    this.offer = peer.offer;
    this.carrier = peer.carrier;
    this.port = peer.port;
    this.#clock = clock;
    this.#wheel = wheel;
    this.openedMs = clock.monotonicMs();
    this.#usedMs = this.openedMs;
    this.#carrierClosed = new Promise((resolve) => peer.duplex.once('close', resolve));
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

  /** Nothing came over it when something had to, and nothing has come since. */
  get isSilent(): boolean {
    return this.#silentAtBytes !== undefined && this.#silentAtBytes === this.stats().bytesIn;
  }

  touch(): void {
    this.#usedMs = this.#clock.monotonicMs();
  }

  /**
   * A stream is being opened: asks the other end for a sign of life beside it. `onSilent` is called when none comes.
   *
   * @returns takes the call back
   */
  watch(onSilent: () => void): () => void {
    this.touch();
    this.#silentCalls.add(onSilent);
    this.#look();
    return () => this.#silentCalls.delete(onSilent);
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

  /** Resolves when its carrier is closed: until then a last word may be on its way. */
  whenClosed(): Promise<void> {
    return this.#carrierClosed;
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

  /** Asks for a sign of life now: whether one came within a moment. */
  async answers(): Promise<boolean> {
    const { bytesIn, rttMs } = this.stats();
    this.session.ping();
    await sleep(this.#clock, SILENT_AGAIN_MS + Math.min(MAX_SILENT_MS, SILENT_ROUND_TRIPS * (rttMs ?? 0)));
    return this.isOpenable && this.stats().bytesIn !== bytesIn;
  }

  #look(): void {
    if (this.#isWatched || this.#isEnded) return;
    this.#isWatched = true;
    const { bytesIn, rttMs } = this.stats();
    this.session.ping();
    this.#wheel.after(silentAfterMs(rttMs), () => {
      this.#isWatched = false;
      if (this.#isEnded || this.#silentCalls.size === 0) return;
      if (this.stats().bytesIn === bytesIn)
        this.#clock.after(SILENT_AGAIN_MS, () => this.#judge(bytesIn)).unref();
      else this.#look();
    });
  }

  #judge(bytesIn: number): void {
    if (this.#isEnded || this.stats().bytesIn !== bytesIn) return;
    this.#silentAtBytes = bytesIn;
    for (const call of [...this.#silentCalls]) call();
  }

  #knowEnd(): void {
    if (this.#isEndKnown) return;
    this.#isEndKnown = true;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const call of waiting) call(this.#endReason ?? 'link_lost');
  }
}
