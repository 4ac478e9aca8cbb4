import type { Subject } from '../audit/index.ts';
import type { Decision } from '../policy/index.ts';
import type { IncomingOpen, StreamEnd } from '../protocol/index.ts';
import { type CloseReason, messageOf, MOVABLE_REASONS } from '../runtime/index.ts';
import { dialRefusal } from './dial-refusal.ts';
import { Dial } from './dialler.ts';
import { closeEvent, decisionData } from './events.ts';
import type { LiveStream } from './live-streams.ts';
import type { OpenDeps } from './open-deps.ts';
import { limited, type Opening, streamInput, streamSubject } from './opening.ts';
import type { StreamLink } from './stream-link.ts';
import type { Socket } from 'node:net';

/** A bundle that changes this often within one open is somebody's mistake; the stream is refused. */
const MAX_DECISIONS = 5;

interface EndExtras {
  readonly detail?: string | undefined;
  /** The denial, with its event if that could be written. */
  readonly decision?: Decision;
  readonly decisionId?: string | undefined;
  /** The opener has gone: there is nobody to refuse. */
  readonly isAborted?: boolean;
  /** The target answered the dial, with a refusal. */
  readonly isDialRefused?: boolean;
}

/**
 * The one way from OPEN to a connected target: slot, resolve, decide, record, check again, connect, accept.
 * Every exception on it refuses the stream; the slot goes back on every outcome but an open stream.
 */
export class Opener {
  readonly #deps: OpenDeps;

  constructor(deps: OpenDeps) {
    this.#deps = deps;
  }

  /** Answers an OPEN, now or later; never throws. */
  open(incoming: IncomingOpen, link: StreamLink): void {
    const { slots, wheel, clock, limits } = this.#deps;
    const barred = this.#deps.barred() ?? link.barred();
    const target = link.target();
    if (barred !== undefined || target === undefined) {
      this.#refuseAtOnce(incoming, link, barred ?? 'unpublished', undefined);
      return;
    }
    const slot = slots.reserve(link.slotPrincipal, link.offer.connection);
    if (typeof slot === 'string') {
      const reason = slot === 'agent' ? 'overloaded' : 'limit_denied';
      this.#refuseAtOnce(incoming, link, reason, `the limit of streams per ${slot} is reached`);
      return;
    }
    const opening: Opening = {
      incoming,
      link,
      slot,
      target,
      startedMs: clock.monotonicMs(),
      subject: streamSubject(incoming, link, target),
      timer: undefined,
      end: undefined,
      allowedBy: undefined,
      dial: undefined,
      dialStartedMs: undefined,
      live: undefined,
      cutDetail: undefined,
    };
    opening.timer = wheel.after(limits().openTimeoutMs, () => this.#end(opening, 'open_timeout'));
    incoming.onAbort((reason) => this.#end(opening, reason, { isAborted: true }));
    this.#run(opening).catch((error: unknown) => {
      this.#deps.logger.error(
        { err: messageOf(error), stream_id: incoming.meta.id },
        'opening a stream failed',
      );
      this.#end(opening, 'internal', { detail: messageOf(error) });
    });
  }

  /** Writes the counts of denials that were held back; `all` at the end of the process. */
  flushDenials(all: boolean): void {
    for (const event of this.#deps.denials.release(all)) this.#deps.audit.note(event);
  }

  async #run(opening: Opening): Promise<void> {
    const { resolver, policy, audit, targets } = this.#deps;
    const { link, slot, target } = opening;
    const resolution = resolver.known(target.host) ?? (await resolver.resolve(target.host));
    if (isOver(opening)) return;
    if (!resolution.ok) {
      const detail = `${target.host}: ${resolution.detail}`;
      targets.failed(link.offer.connection, 'stream', 'dns_failure', detail);
      this.#end(opening, 'dns_failure', { detail });
      return;
    }
    const base = streamInput(opening, resolution.addresses, slot.usage, this.#deps.now());
    for (let attempt = 0; attempt < MAX_DECISIONS; attempt += 1) {
      const decision = limited(await policy.decide(base, 'open'), slot.usage);
      if (isOver(opening)) return;
      this.#deps.metrics.decisionSeconds.observe(decision.eval_us / MICROSECONDS);
      if (!decision.allow) {
        await this.#deny(opening, base, decision, resolution.ageMs);
        return;
      }
      if (decision.generation !== policy.generation) continue;
      const data = decisionData(decision, { resolveAgeMs: resolution.ageMs });
      const subject = { ...opening.subject, target_addr: decision.allowed_addresses[0] };
      let decisionId: string;
      try {
        decisionId = (await audit.record({ type: 'stream.decision', subject, data })).event_id;
      } catch (error) {
        this.#end(opening, 'audit_unavailable', { detail: messageOf(error) });
        return;
      }
      if (isOver(opening)) {
        this.#noteNeverOpened(opening, decisionId);
        return;
      }
      opening.allowedBy = decisionId;
      // From here to connect() nothing yields: what holds now holds for the stream that is registered.
      const barred = this.#deps.barred() ?? link.barred();
      if (barred !== undefined) {
        this.#end(opening, barred, { decisionId });
        return;
      }
      if (opening.incoming.aborted) {
        this.#end(opening, 'client_reset', { isAborted: true });
        return;
      }
      if (decision.generation !== policy.generation) continue;
      this.#dial(opening, decision, decisionId, base);
      this.#deps.onDecided({ base, decision, decisionId, subject });
      return;
    }
    this.#end(opening, 'policy_overload', { detail: `policy changed ${MAX_DECISIONS} times meanwhile` });
  }

  async #deny(
    opening: Opening,
    base: LiveStream['base'],
    decision: Decision,
    resolveAgeMs: number,
  ): Promise<void> {
    const { audit, denials, logger } = this.#deps;
    const reason = decision.reason ?? 'policy_denied';
    const key = `${opening.link.offer.connection}/${opening.link.offer.sender.id}/${reason}/${opening.target.host}`;
    const event = denials.admit(key, {
      type: 'stream.decision',
      subject: opening.subject,
      data: decisionData(decision, { resolveAgeMs }),
    });
    let decisionId: string | undefined;
    if (event !== undefined) {
      try {
        decisionId = (await audit.record(event)).event_id;
      } catch (error) {
        logger.error(
          { err: messageOf(error), stream_id: opening.incoming.meta.id },
          'a denial was not recorded',
        );
      }
    }
    this.#end(opening, reason, { decision, decisionId });
    this.#deps.onDecided({ base, decision, decisionId, subject: opening.subject });
  }

  #dial(opening: Opening, decision: Decision, decisionId: string, base: LiveStream['base']): void {
    const { clock, streams, wheel, connect, limits, guard, managed, targets } = this.#deps;
    const { incoming, link, target } = opening;
    const live: LiveStream = {
      id: incoming.meta.id,
      number: incoming.number,
      link,
      base,
      decisionId,
      startedMs: opening.startedMs,
      openedAtMs: clock.nowMs(),
      addresses: decision.allowed_addresses,
      session: undefined,
      obligations: decision.obligations,
      recheckAt: decision.recheck_at,
      rule: decision.rule,
      bundle: decision.bundle,
      errorCount: 0,
      wouldClose: false,
      cut: (reason, detail) => this.#cut(opening, live, reason, detail),
    };
    opening.live = live;
    streams.add(live);
    opening.dialStartedMs = clock.monotonicMs();
    const plan = {
      addresses: decision.allowed_addresses,
      port: target.port,
      connectTimeoutMs: limits().connectTimeoutMs,
      refuse: dialRefusal(guard, managed, target),
    };
    opening.dial = new Dial(plan, connect, wheel, {
      onConnected: (socket, address) => this.#accept(opening, live, socket, address),
      onFailed: ({ reason, detail, isRefused }) => {
        targets.failed(link.offer.connection, 'stream', reason, detail);
        this.#end(opening, reason, { detail, decisionId, isDialRefused: isRefused === true });
      },
    });
    opening.dial.start();
  }

  #accept(opening: Opening, live: LiveStream, socket: Socket, address: string): void {
    const { clock, keeper, metrics, targets } = this.#deps;
    const dialMs = clock.monotonicMs() - (opening.dialStartedMs ?? 0);
    targets.reached(opening.link.offer.connection, 'stream', address, dialMs);
    if (isOver(opening)) {
      socket.destroy();
      return;
    }
    opening.timer?.cancel();
    live.addresses = [address];
    try {
      live.session = opening.incoming.accept(socket, { decision_id: live.decisionId }, (end) =>
        this.#onStreamEnd(opening, live, end, dialMs),
      );
    } catch (error) {
      socket.destroy();
      this.#end(opening, 'internal', { detail: messageOf(error) });
      return;
    }
    // The end may have come inside accept(), when the opener had just gone.
    if (!this.#deps.streams.has(live)) return;
    metrics.opened.inc({ result: 'allowed' });
    keeper.watch(live);
  }

  #cut(opening: Opening, live: LiveStream, reason: CloseReason, detail: string | undefined): void {
    if (live.session === undefined) {
      this.#end(opening, reason, { detail, decisionId: live.decisionId });
      return;
    }
    opening.cutDetail = detail;
    live.session.reset(reason);
  }

  #onStreamEnd(opening: Opening, live: LiveStream, end: StreamEnd, dialMs: number): void {
    const { streams, keeper, metrics, audit, clock } = this.#deps;
    opening.end ??= { reason: end.reason, detail: undefined };
    streams.delete(live);
    keeper.unwatch(live);
    opening.slot.release();
    metrics.bytes.inc({ direction: 'up' }, end.bytesUp);
    metrics.bytes.inc({ direction: 'down' }, end.bytesDown);
    const subject = { ...opening.subject, target_addr: live.addresses[0] };
    const close = (reason: CloseReason): void => {
      metrics.closed.inc({ reason });
      audit.note({
        ...closeEvent(subject, {
          reason,
          ...(reason === end.reason ? { reasonNumber: end.reasonNumber } : {}),
          bytesUp: end.bytesUp,
          bytesDown: end.bytesDown,
          dialMs,
          durationMs: end.durationMs,
          decisionId: live.decisionId,
        }),
        at_ms: endedAtMs,
      });
      if (!QUIET_ENDS.has(reason))
        this.#remember(opening, reason, opening.cutDetail, live.decisionId, undefined);
    };
    const endedAtMs = clock.nowMs();
    if (end.linkEnded) opening.link.whenEndKnown(close);
    else close(end.reason);
  }

  /** The one end of an opening that became no open stream. */
  #end(opening: Opening, reason: CloseReason, extras: EndExtras = {}): void {
    if (isOver(opening)) return;
    const { metrics, streams } = this.#deps;
    opening.end = { reason, detail: extras.detail };
    opening.timer?.cancel();
    opening.dial?.abort();
    opening.slot.release();
    if (opening.live !== undefined) streams.delete(opening.live);
    const allowedBy = opening.allowedBy;
    if (allowedBy !== undefined) {
      if (reason === 'link_lost')
        opening.link.whenEndKnown((known) => this.#noteNeverOpened(opening, allowedBy, known));
      else this.#noteNeverOpened(opening, allowedBy);
    } else if (extras.decision === undefined && extras.isAborted !== true) {
      this.#noteRefused(opening.link, opening.subject, reason, extras.detail);
    }
    metrics.opened.inc({ result: extras.decision === undefined ? 'failed' : 'denied' });
    metrics.refused.inc({ reason });
    if (extras.isAborted !== true) {
      this.#refuse(opening.incoming, reason, extras.decisionId ?? allowedBy, extras.isDialRefused);
    }
    this.#fail(opening, reason, extras);
  }

  /** An allow is on disk and no stream came of it: the end is evidence too. */
  #noteNeverOpened(opening: Opening, decisionId: string, reason = opening.end?.reason): void {
    const { audit, clock } = this.#deps;
    const nowMs = clock.monotonicMs();
    const { dialStartedMs } = opening;
    audit.note(
      closeEvent(opening.subject, {
        reason: reason ?? 'internal',
        bytesUp: 0,
        bytesDown: 0,
        dialMs: dialStartedMs === undefined ? undefined : nowMs - dialStartedMs,
        durationMs: nowMs - opening.startedMs,
        decisionId,
      }),
    );
  }

  #refuseAtOnce(
    incoming: IncomingOpen,
    link: StreamLink,
    reason: CloseReason,
    detail: string | undefined,
  ): void {
    const { metrics } = this.#deps;
    const target = link.target() ?? { host: '', port: 0 };
    const subject = streamSubject(incoming, link, target);
    this.#noteRefused(link, subject, reason, detail);
    metrics.opened.inc({ result: 'failed' });
    metrics.refused.inc({ reason });
    this.#refuse(incoming, reason, undefined);
    this.#remember({ incoming, link }, reason, detail, undefined, undefined);
  }

  /** Written, or counted with others like it: a client that tries again and again must not fill the spool. */
  #noteRefused(link: StreamLink, subject: Subject, reason: CloseReason, detail: string | undefined): void {
    const { audit, denials } = this.#deps;
    const data = { reason, ...(detail === undefined ? {} : { detail }) };
    const key = `${link.offer.connection}/${link.offer.sender.id}/${reason}`;
    const event = denials.admit(key, { type: 'stream.refused', subject, data });
    if (event !== undefined) audit.note(event);
  }

  #refuse(
    incoming: IncomingOpen,
    reason: CloseReason,
    decisionId: string | undefined,
    isDialRefused = false,
  ): void {
    try {
      incoming.refuse(reason, {
        movable: MOVABLE_REASONS.has(reason),
        ...(decisionId === undefined ? {} : { decision_id: decisionId }),
        ...(isDialRefused ? { dial_refused: true } : {}),
      });
    } catch (error) {
      // Whatever the session thinks of it, the stream is not open and stays so.
      this.#deps.logger.warn(
        { err: messageOf(error), stream_id: incoming.meta.id },
        'refusing a stream failed',
      );
    }
  }

  #fail(opening: Opening, reason: CloseReason, extras: EndExtras): void {
    if (extras.isAborted === true) return;
    this.#remember(opening, reason, extras.detail, extras.decisionId, extras.decision);
  }

  #remember(
    opening: Pick<Opening, 'incoming' | 'link'>,
    reason: CloseReason,
    detail: string | undefined,
    decisionId: string | undefined,
    decision: Decision | undefined,
  ): void {
    this.#deps.failures.add({
      connection: opening.link.offer.connection,
      stream_id: opening.incoming.meta.id,
      reason,
      at: new Date(this.#deps.clock.nowMs()).toISOString(),
      ...(decisionId === undefined ? {} : { decision_id: decisionId }),
      ...(decision === undefined ? {} : { reasons: decision.reasons }),
      ...(detail === undefined ? {} : { detail }),
    });
  }
}

/** Asked after every await: the opener, the link or the clock may have ended it meanwhile. */
const isOver = (opening: Opening): boolean => opening.end !== undefined;

const MICROSECONDS = 1_000_000;

/** Ends that are no failure: somebody was done, or went away by its own will. */
const QUIET_ENDS: ReadonlySet<CloseReason> = new Set<CloseReason>([
  'client_fin',
  'target_fin',
  'client_reset',
  'target_reset',
  'gateway_shutdown',
  'agent_shutdown',
]);
