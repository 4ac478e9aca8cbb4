import { Backoff, type Clock, foreignCodeOf, messageOf, sleep, type Timer } from '../../runtime/index.ts';
import type { Backlog, SinkEvent } from './backlog.ts';
import { BacklogFeed, type LiveSink, type Verdict } from './feed.ts';
import type { FromSinks, SealedRun, SinkName, SinkStatus } from './messages.ts';
import type { SinkPosition } from './position-file.ts';

/** A position is on disk this long after it was reached, so that a kill repeats no more than that. */
const SAVE_MS = 1_000;
/** The longest pause between two tries. */
const MAX_RETRY_MS = 10_000;

type Say = (line: Omit<Extract<FromSinks, { kind: 'log' }>, 'kind'>) => void;

export interface RunnerOptions {
  readonly name: SinkName;
  readonly sink: LiveSink;
  readonly backlog: Backlog;
  readonly clock: Clock;
  readonly save: (position: SinkPosition) => void;
  readonly say: Say;
  /** Something of the status, or of what is still wanted, may be another. */
  readonly onChange: () => void;
}

const textOf = (thrown: unknown): string => {
  const code = foreignCodeOf(thrown);
  const text = messageOf(thrown);
  return code === undefined || text.includes(code) ? text : `${text} (${code})`;
};

/** Keeps one sink going: session after session, with pauses between those that failed. */
export class SinkRunner {
  readonly #o: RunnerOptions;
  readonly #feed: BacklogFeed;
  readonly #stop = new AbortController();
  /** Ends a pause between two tries. */
  readonly #pause = new AbortController();
  readonly #done: Promise<void>;
  #state: SinkStatus['state'] = 'idle';
  #error: string | undefined;
  #sent = 0;
  #failed = 0;
  #dropped = 0;
  #unconfirmed = 0;
  #isLosing = false;
  #isDraining = false;
  #unsaved: SinkPosition | undefined;
  #saveTimer: Timer | undefined;
  #saveFailed = false;

  constructor(options: RunnerOptions) {
    this.#o = options;
    this.#feed = new BacklogFeed(options.backlog, options.clock, (last, count, verdict) =>
      this.#confirmed(last, count, verdict),
    );
    this.#done = this.#run();
  }

  get status(): SinkStatus {
    const { name, backlog } = this.#o;
    return {
      name,
      state: this.#state,
      ...(this.#error === undefined ? {} : { error: this.#error }),
      sent: this.#sent,
      failed: this.#failed,
      dropped: this.#dropped,
      unconfirmed: this.#unconfirmed,
      backlog_events: backlog.events,
      backlog_bytes: backlog.bytes,
    };
  }

  get wantedFrom(): number {
    return this.#o.backlog.wantedFrom;
  }

  sealed(runs: readonly SealedRun[]): void {
    this.#o.backlog.add(runs);
    this.#countLost();
    this.#feed.wake();
  }

  released(segment: number): void {
    this.#o.backlog.release(segment);
    this.#countLost();
  }

  /** Hands over what is there, at most `deadlineMs`, and ends. */
  async close(deadlineMs: number): Promise<void> {
    this.#isDraining = true;
    this.#feed.drain();
    this.#pause.abort(new Error('the process ends'));
    const late = this.#o.clock.after(deadlineMs, () => this.#stop.abort(new Error('the process ends')));
    await this.#done;
    late.cancel();
    this.#save();
    this.#state = 'ended';
  }

  async #run(): Promise<void> {
    const backoff = new Backoff();
    const { signal } = this.#stop;
    const { sink, backlog, clock } = this.#o;
    for (;;) {
      await this.#feed.some();
      if (this.#isOver(backlog.events === 0)) return;
      try {
        backlog.rewind();
        await sink.run(this.#feed, signal);
        this.#countLost();
        this.#worked();
        backoff.reset();
      } catch (thrown) {
        this.#countLost();
        // A receiver that is away when the process ends is not waited for.
        if (this.#isOver(true)) return;
        this.#refused(textOf(thrown));
        const delayMs = Math.min(MAX_RETRY_MS, backoff.nextDelayMs());
        await sleep(clock, delayMs, this.#pause.signal).catch(() => undefined);
        if (this.#isOver(true)) return;
      }
    }
  }

  /** Asked again after each await: the process may have begun to end meanwhile. */
  #isOver(hasNothingLeft: boolean): boolean {
    return this.#stop.signal.aborted || (this.#isDraining && hasNothingLeft);
  }

  #worked(): void {
    if (this.#state === 'failing')
      this.#o.say({ level: 'info', fields: { sink: this.#o.name }, text: 'live sink takes events again' });
    this.#state = 'ok';
    this.#error = undefined;
    if (this.#o.backlog.events === 0) this.#isLosing = false;
    this.#o.onChange();
  }

  #refused(error: string): void {
    this.#failed += 1;
    if (this.#state !== 'failing' || this.#error !== error) {
      const fields = { sink: this.#o.name, error };
      this.#o.say({ level: 'warn', fields, text: 'live sink does not take events; the spool keeps them' });
    }
    this.#state = 'failing';
    this.#error = error;
    this.#o.onChange();
  }

  #countLost(): void {
    const lost = this.#o.backlog.takeLost();
    if (lost > 0) this.#drop(lost, 'the spool no longer has events that a live sink was to get');
    this.#o.onChange();
  }

  #drop(count: number, text: string): void {
    this.#dropped += count;
    if (this.#isLosing) return;
    this.#isLosing = true;
    const fields = { sink: this.#o.name, dropped: count };
    this.#o.say({ level: 'error', fields, text: `${text}; sallyport_audit_sink_dropped_total counts them` });
  }

  #confirmed(last: SinkEvent, count: number, { refused = 0, isUnconfirmed = false }: Verdict): void {
    const taken = Math.max(0, count - refused);
    this.#sent += taken;
    if (isUnconfirmed) this.#unconfirmed += taken;
    if (refused > 0) this.#drop(refused, 'a receiver refuses events for what they are');
    this.#unsaved = { chain: last.chain, seq: last.seq };
    this.#saveTimer ??= this.#o.clock.after(SAVE_MS, () => this.#save());
    this.#o.onChange();
  }

  #save(): void {
    this.#saveTimer?.cancel();
    this.#saveTimer = undefined;
    const position = this.#unsaved;
    if (position === undefined) return;
    try {
      this.#o.save(position);
      this.#unsaved = undefined;
      this.#saveFailed = false;
    } catch (thrown) {
      if (this.#saveFailed) return;
      this.#saveFailed = true;
      const fields = { sink: this.#o.name, error: textOf(thrown) };
      this.#o.say({ level: 'warn', fields, text: 'position of a live sink was not saved' });
    }
  }
}
