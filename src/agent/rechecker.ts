import type { Decision, DecisionBundle, PolicyInputBase } from '../policy/index.ts';
import { type CloseReason, type Logger, messageOf } from '../runtime/index.ts';
import { adopt, type LiveStream, type LiveStreams } from './live-streams.ts';
import type { PolicyPort } from './policy-port.ts';
import type { Turns } from './turns.ts';

/** Streams evaluated together in the recheck lane (policy.md, Live re-evaluation). */
export const RECHECK_BATCH = 100;
/** An engine that fails is asked this often in all; then the stream is cut. */
export const RECHECK_ATTEMPTS = 3;

export interface RecheckerDeps {
  readonly policy: PolicyPort;
  readonly streams: LiveStreams;
  readonly logger: Logger;
  readonly turns: Turns;
  /** The stored input with its time and managed settings refreshed. */
  refresh(base: PolicyInputBase): PolicyInputBase;
  /** A stream goes on under new obligations. */
  onKept(stream: LiveStream): void;
  /** A stream is about to be cut by this decision: the evidence goes first. */
  onDenied(stream: LiveStream, decision: Decision): void;
}

/** Why a re-evaluation ends a stream: its grant ran out, or somebody changed what is allowed. */
const cutReason = ({ reason }: Decision): CloseReason =>
  reason === undefined || reason === 'policy_denied' ? 'policy_changed' : reason;

/** Which of what decides is another than when the stream was allowed. */
const changeText = (before: DecisionBundle | undefined, now: DecisionBundle | undefined): string => {
  if (before === undefined || now === undefined) return '';
  const isOtherBundle = before.sha256 !== now.sha256;
  const areOtherGrants = before.grants_sha256 !== now.grants_sha256;
  if (!isOtherBundle && !areOtherGrants) return '; neither bundle nor grants changed';
  return [
    isOtherBundle ? `; the bundle changed, to sequence ${String(now.sequence)}` : '',
    areOtherGrants ? '; the grants file changed' : '',
  ].join('');
};

/** The reason codes, the rule that allowed the stream, and what changed. */
const cutDetail = ({ rule, bundle }: LiveStream, decision: Decision): string => {
  const codes = decision.reasons.map((reason) => reason.code).join(', ');
  const held = rule === null ? '' : `: rule '${rule}' let it in and does not suffice now`;
  return `${codes}${held}${changeText(bundle, decision.bundle)}`;
};

/** Re-evaluates live streams in batches; one batch is under way at a time, a stream waits at most once. */
export class Rechecker {
  readonly #deps: RecheckerDeps;
  readonly #waiting = new Set<LiveStream>();
  #running: Promise<void> | undefined;

  constructor(deps: RecheckerDeps) {
    this.#deps = deps;
  }

  /** Queues one stream. */
  add(stream: LiveStream): void {
    this.#waiting.add(stream);
    this.#start();
  }

  /**
   * Queues every live stream: a bundle was activated or its data reloaded. What its review would close comes first, so
   * that a denied stream does not wait for those that stay.
   */
  addAll(): void {
    const live = [...this.#deps.streams];
    // Whoever waits is live, or has ended and may be forgotten.
    this.#waiting.clear();
    for (const stream of live) if (stream.wouldClose) this.#waiting.add(stream);
    for (const stream of live) this.#waiting.add(stream);
    this.#start();
  }

  /** Resolves when nothing is queued. */
  async whenDone(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  #start(): void {
    if (this.#running !== undefined || this.#waiting.size === 0) return;
    this.#running = this.#run()
      .catch((error: unknown) => {
        this.#deps.logger.error({ err: messageOf(error) }, 're-evaluation of live streams failed');
      })
      .finally(() => {
        this.#running = undefined;
        this.#start();
      });
  }

  async #run(): Promise<void> {
    while (this.#waiting.size > 0) {
      const batch: LiveStream[] = [];
      for (const stream of this.#waiting) {
        this.#waiting.delete(stream);
        if (this.#deps.streams.has(stream)) batch.push(stream);
        if (batch.length === RECHECK_BATCH) break;
      }
      await Promise.all(batch.map((stream) => this.#recheck(stream)));
    }
  }

  async #recheck(stream: LiveStream): Promise<void> {
    const { policy, turns } = this.#deps;
    let answer: () => void;
    try {
      const decision = await turns.run(() => policy.decide(this.#deps.refresh(stream.base), 'recheck'));
      answer = () => this.#apply(stream, decision);
    } catch (error) {
      answer = () => this.#failed(stream, 'policy_error', messageOf(error));
    }
    await turns.run(() => {
      if (this.#deps.streams.has(stream)) answer();
    });
  }

  #apply(stream: LiveStream, decision: Decision): void {
    if (decision.allow && stream.addresses.every((address) => decision.allowed_addresses.includes(address))) {
      adopt(stream, decision);
      this.#deps.onKept(stream);
    } else if (decision.decided_by === 'engine') {
      this.#failed(stream, decision.reason ?? 'policy_error', 'the engine gave no answer');
    } else {
      this.#deps.onDenied(stream, decision);
      stream.cut(cutReason(decision), cutDetail(stream, decision));
    }
  }

  /** An error is not a deny: asked again, on whatever worker replaced the failed one, then cut. */
  #failed(stream: LiveStream, reason: CloseReason, detail: string): void {
    stream.errorCount += 1;
    if (stream.errorCount < RECHECK_ATTEMPTS) this.#waiting.add(stream);
    else stream.cut(reason, detail);
  }
}
