import type { OpenMeta, Refusal, SessionStream, StreamEnd } from '../protocol/index.ts';
import {
  canonicalAddress,
  type Clock,
  type CloseReason,
  type Logger,
  messageOf,
  type TimerWheel,
  uuidv7,
  type WheelEntry,
} from '../runtime/index.ts';
import type { Application } from './application.ts';
import type { FailureLog } from './failures.ts';
import type { GatewayLink } from './gateway-link.ts';
import type { LinkPool } from './link-pool.ts';
import type { GatewayMetrics } from './metrics.ts';
import type { Waiter } from './waiters.ts';

const MS_PER_SECOND = 1_000;
/** Lines about failed streams per second; the rest is in the metrics and in `/status`. */
const LINES_PER_SECOND = 10;

export interface AppStreamsDeps {
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly logger: Logger;
  readonly metrics: GatewayMetrics;
  readonly failures: FailureLog;
  readonly maxStreams: () => number;
  readonly openTimeoutMs: () => number;
}

/** One application connection. */
interface AppStream {
  readonly id: string;
  readonly pool: LinkPool;
  readonly application: Application;
  readonly startedMs: number;
  readonly claimed: OpenMeta['claimed'];
  attempt: number;
  timer: WheelEntry | undefined;
  waiter: Waiter | undefined;
  link: GatewayLink | undefined;
  session: SessionStream | undefined;
  /** Takes back what was asked of the link while the stream waits for an answer. */
  unwatch: () => void;
  isAccepted: boolean;
  isDone: boolean;
}

/** Why an application's connection became no stream. */
interface Failure {
  readonly reason: CloseReason;
  readonly detail?: string | undefined;
  readonly decisionId?: string | undefined;
  readonly isDialRefused?: boolean;
}

/** Ends that are no failure: somebody was done, or went away by its own will. */
const QUIET_ENDS: ReadonlySet<CloseReason> = new Set<CloseReason>([
  'client_fin',
  'target_fin',
  'client_reset',
  'target_reset',
  'gateway_shutdown',
]);

const ignore = (): void => undefined;

/** Carries application connections: each becomes one stream, or is refused as fast as that is known. */
export class AppStreams {
  readonly #deps: AppStreamsDeps;
  readonly #streams = new Set<AppStream>();
  #idle: (() => void)[] = [];
  #lineSecond = 0;
  #lines = 0;

  constructor(deps: AppStreamsDeps) {
    this.#deps = deps;
  }

  /** Application connections held, waiting ones included. */
  get count(): number {
    return this.#streams.size;
  }

  accept(application: Application, pool: LinkPool): void {
    const { clock, wheel } = this.#deps;
    const { socket, label, early } = application;
    const { remoteAddress, remotePort } = socket;
    // Until a session owns the socket its errors are nobody's; its end shows when the stream opens.
    socket.on('error', ignore);
    const stream: AppStream = {
      id: uuidv7(clock),
      pool,
      application,
      startedMs: clock.monotonicMs(),
      claimed: {
        ...(remoteAddress === undefined ? {} : { address: plainAddress(remoteAddress) }),
        ...(remotePort === undefined ? {} : { port: remotePort }),
        ...(label === undefined ? {} : { label }),
      },
      attempt: 1,
      timer: undefined,
      waiter: undefined,
      link: undefined,
      session: undefined,
      unwatch: ignore,
      isAccepted: false,
      isDone: false,
    };
    if (this.#streams.size >= this.#deps.maxStreams()) {
      const detail = `this gateway holds ${this.#streams.size} application connections already`;
      this.#fail(stream, { reason: 'overloaded', detail });
      return;
    }
    this.#streams.add(stream);
    stream.timer = wheel.after(this.#deps.openTimeoutMs(), () => this.#onTimeout(stream));
    const link = pool.pick();
    if (link !== undefined) {
      this.#open(stream, link, early);
      return;
    }
    const waiter: Waiter = {
      serve: (served) => this.#open(stream, served, early),
      fail: ({ code, detail }) => this.#fail(stream, { reason: code, detail }),
    };
    stream.waiter = waiter;
    pool.wait(waiter);
  }

  /** Resets what is still there. */
  cutAll(reason: CloseReason): void {
    for (const stream of [...this.#streams]) {
      if (stream.session === undefined) this.#fail(stream, { reason });
      else stream.session.reset(reason);
    }
  }

  /** Resolves when there is none left. */
  whenNone(): Promise<void> {
    if (this.#streams.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idle.push(resolve);
    });
  }

  #open(stream: AppStream, link: GatewayLink, early: Buffer): void {
    stream.waiter = undefined;
    if (stream.isDone) return;
    const { socket, isTold } = stream.application;
    if (socket.destroyed) {
      this.#forget(stream);
      return;
    }
    const meta: OpenMeta = {
      id: stream.id,
      attempt: stream.attempt,
      kind: 'tcp',
      claimed: stream.claimed,
      ext: {},
    };
    stream.link = link;
    stream.unwatch = link.watch(() => this.#onSilent(stream, link));
    try {
      stream.session = link.session.open(meta, socket, early, {
        keepsSocket: isTold,
        onAccept: () => this.#onAccept(stream),
        onRefuse: (refusal) => this.#onRefuse(stream, link, refusal),
        onEnd: (end) => this.#onEnd(stream, link, end),
      });
    } catch (error) {
      this.#fail(stream, { reason: 'internal', detail: messageOf(error) });
    }
  }

  /**
   * Nothing comes over the link: a stream without an answer goes around it, to the same agent. That one takes an id only
   * once, so that early data that did arrive over the silent link reaches no target a second time.
   */
  #onSilent(stream: AppStream, link: GatewayLink): void {
    if (stream.attempt > 1) return;
    void stream.pool.around(link).then((other) => {
      const { session } = stream;
      if (other?.isOpenable !== true || !link.isSilent || stream.link !== link || session === undefined)
        return;
      const early = link.session.recall(session, 'link_lost');
      if (early === undefined) return;
      this.#handedBack(stream);
      this.#deps.metrics.retried.inc();
      this.#open(stream, other, early);
    });
  }

  /** The socket is ours again, without listeners, and may be opened once more. */
  #handedBack(stream: AppStream): void {
    stream.unwatch();
    stream.session = undefined;
    stream.attempt += 1;
    stream.application.socket.on('error', ignore);
  }

  #onAccept(stream: AppStream): void {
    const { metrics, clock } = this.#deps;
    stream.isAccepted = true;
    stream.unwatch();
    stream.timer?.cancel();
    stream.application.accepted(stream.id);
    metrics.opened.inc({ result: 'allowed' });
    metrics.openSeconds.observe((clock.monotonicMs() - stream.startedMs) / MS_PER_SECOND);
  }

  #onRefuse(stream: AppStream, link: GatewayLink, refusal: Refusal): void {
    stream.unwatch();
    stream.session = undefined;
    if (stream.isDone) return;
    const failure: Failure = {
      reason: refusal.code,
      decisionId: refusal.decision_id,
      isDialRefused: refusal.dial_refused === true,
    };
    if (!refusal.movable || stream.attempt > 1) {
      this.#fail(stream, failure);
      return;
    }
    this.#handedBack(stream);
    stream.pool.another(link, refusal.code).then(
      (other) => {
        if (stream.isDone) return;
        if (other?.isOpenable !== true) {
          this.#fail(stream, { ...failure, detail: 'no other agent to try' });
          return;
        }
        this.#deps.metrics.retried.inc();
        this.#open(stream, other, refusal.early);
      },
      (error: unknown) => this.#fail(stream, { ...failure, detail: messageOf(error) }),
    );
  }

  #onEnd(stream: AppStream, link: GatewayLink, end: StreamEnd): void {
    if (stream.isDone) return;
    const { metrics } = this.#deps;
    const { application } = stream;
    // The session let go of the socket; a late error of a reset one is of no interest.
    application.socket.on('error', ignore);
    metrics.bytes.inc({ direction: 'up' }, end.bytesUp);
    metrics.bytes.inc({ direction: 'down' }, end.bytesDown);
    link.touch();
    this.#forget(stream);
    const record = (reason: CloseReason): void => {
      metrics.closed.inc({ reason });
      if (!stream.isAccepted) {
        metrics.opened.inc({ result: 'failed' });
        metrics.refused.inc({ reason });
        if (application.isTold) this.#tell(stream, { reason });
      }
      if (!QUIET_ENDS.has(reason)) this.#remember(stream, reason, undefined, undefined);
    };
    if (end.linkEnded) link.whenEndKnown(record);
    else record(end.reason);
  }

  #onTimeout(stream: AppStream): void {
    if (stream.isDone || stream.isAccepted) return;
    const { session } = stream;
    if (session === undefined) {
      const detail = stream.pool.lastFailure?.detail ?? 'no data link in time';
      this.#fail(stream, { reason: 'open_timeout', detail });
    } else {
      session.reset('open_timeout');
    }
  }

  /** The connection became no stream: its application hears of it at once. */
  #fail(stream: AppStream, failure: Failure): void {
    if (stream.isDone) return;
    const { metrics } = this.#deps;
    const { reason, detail, decisionId } = failure;
    stream.application.socket.on('error', ignore);
    this.#forget(stream);
    this.#tell(stream, failure);
    metrics.opened.inc({ result: decisionId === undefined ? 'failed' : 'denied' });
    metrics.refused.inc({ reason });
    this.#remember(stream, reason, detail, decisionId);
  }

  #tell(stream: AppStream, { reason, detail, decisionId, isDialRefused }: Failure): void {
    const refused = {
      reason,
      streamId: stream.id,
      detail,
      decisionId,
      isDialRefused: isDialRefused === true,
    };
    stream.application.refused(refused);
  }

  #forget(stream: AppStream): void {
    stream.isDone = true;
    stream.unwatch();
    stream.timer?.cancel();
    if (stream.waiter !== undefined) stream.pool.forget(stream.waiter);
    stream.waiter = undefined;
    if (!this.#streams.delete(stream) || this.#streams.size > 0) return;
    const idle = this.#idle;
    this.#idle = [];
    for (const call of idle) call();
  }

  #remember(
    stream: AppStream,
    reason: CloseReason,
    detail: string | undefined,
    decisionId: string | undefined,
  ): void {
    const { clock, failures } = this.#deps;
    const { connection } = stream.pool;
    failures.add({
      connection,
      stream_id: stream.id,
      reason,
      at: new Date(clock.nowMs()).toISOString(),
      ...(decisionId === undefined ? {} : { decision_id: decisionId }),
      ...(detail === undefined ? {} : { detail }),
    });
    this.#say({ connection, stream_id: stream.id, reason, decision_id: decisionId, detail });
  }

  #say(fields: Readonly<Record<string, string | undefined>>): void {
    const { clock, logger } = this.#deps;
    const second = Math.floor(clock.monotonicMs() / MS_PER_SECOND);
    if (second !== this.#lineSecond) {
      if (this.#lines > LINES_PER_SECOND) {
        logger.warn({ count: this.#lines - LINES_PER_SECOND }, 'more streams failed than lines were written');
      }
      this.#lineSecond = second;
      this.#lines = 0;
    }
    this.#lines += 1;
    if (this.#lines <= LINES_PER_SECOND) logger.warn(fields, 'stream failed');
  }
}

/** A dual-stack listener shows IPv4 clients as `::ffff:1.2.3.4`. */
const plainAddress = (address: string): string => canonicalAddress(address) ?? address;
