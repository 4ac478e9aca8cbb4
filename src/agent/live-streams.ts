import type { Decision, DecisionBundle, Obligations, PolicyInputBase } from '../policy/index.ts';
import type { SessionStream } from '../protocol/index.ts';
import type { CloseReason } from '../runtime/index.ts';
import type { StreamLink } from './stream-link.ts';

/**
 * A stream from the tick of its connect() on: still dialling, or open. Everything that can end a stream
 * afterwards (revocation, re-evaluation, limits, an administrator) finds it here.
 */
export interface LiveStream {
  readonly id: string;
  readonly number: number;
  readonly link: StreamLink;
  /** As decided, `time` and `managed` are refreshed for re-evaluation, `usage` is frozen. */
  readonly base: PolicyInputBase;
  readonly decisionId: string;
  readonly startedMs: number;
  readonly openedAtMs: number;
  /** What may be dialled while dialling; the one address in use once open. */
  addresses: readonly string[];
  session: SessionStream | undefined;
  obligations: Obligations;
  recheckAt: string | null;
  rule: string | null;
  /** What allowed it last: told apart from what ends it. */
  bundle?: DecisionBundle | undefined;
  /** Engine errors in a row while re-evaluating. */
  errorCount: number;
  /** The newest review of an activation found that it would be closed: it is re-evaluated before the others. */
  wouldClose: boolean;
  /** Ends it: refused while dialling, reset once open. */
  cut(reason: CloseReason, detail?: string): void;
}

/** What a new decision changes about a live stream. */
export const adopt = (stream: LiveStream, decision: Decision): void => {
  stream.obligations = decision.obligations;
  stream.recheckAt = decision.recheck_at;
  stream.rule = decision.rule;
  stream.bundle = decision.bundle;
  stream.errorCount = 0;
  stream.wouldClose = false;
};

export const bytesOf = (stream: LiveStream): number =>
  stream.session === undefined ? 0 : stream.session.bytesUp + stream.session.bytesDown;

/** The streams of one agent over all links. */
export class LiveStreams {
  readonly #streams = new Set<LiveStream>();
  #idle: (() => void)[] = [];

  get count(): number {
    return this.#streams.size;
  }

  add(stream: LiveStream): void {
    this.#streams.add(stream);
  }

  delete(stream: LiveStream): void {
    if (!this.#streams.delete(stream) || this.#streams.size > 0) return;
    const idle = this.#idle;
    this.#idle = [];
    for (const call of idle) call();
  }

  has(stream: LiveStream): boolean {
    return this.#streams.has(stream);
  }

  [Symbol.iterator](): IterableIterator<LiveStream> {
    return this.#streams[Symbol.iterator]();
  }

  /** Cuts what matches; says how many. */
  cut(reason: CloseReason, matches: (stream: LiveStream) => boolean): number {
    const found = [...this.#streams].filter(matches);
    for (const stream of found) stream.cut(reason);
    return found.length;
  }

  /** Resolves when there is none left. */
  whenNone(): Promise<void> {
    if (this.#streams.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idle.push(resolve);
    });
  }
}
