import type { MessagePort, Worker } from 'node:worker_threads';
import { type Logger, messageOf, startWorker, systemClock } from '../../runtime/index.ts';
import type { FromSinks, SinkStatus, SinkWorkerOptions, ToSinks } from './messages.ts';

/** A thread that has not ended by then is ended; its positions are saved each second. */
const END_GRACE_MS = 2_000;

/** The main thread's end of the live sinks. Nothing that it does, or that fails in it, is waited for by a decision. */
export class SinkClient {
  readonly #worker: Worker;
  readonly #logger: Logger;
  readonly #gone: Promise<void>;
  #sinks: readonly SinkStatus[] = [];
  #isClosing = false;

  /** `spoolPort` is the way to the worker of the spool. */
  constructor(options: SinkWorkerOptions, spoolPort: MessagePort, logger: Logger) {
    this.#logger = logger;
    this.#worker = startWorker(new URL('./sink-worker.ts', import.meta.url), {
      workerData: { options, spoolPort },
      transferList: [spoolPort],
    });
    this.#worker.on('message', (message: FromSinks) => this.#take(message));
    this.#worker.on('error', (error) => this.#lost(messageOf(error)));
    this.#gone = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        if (!this.#isClosing) this.#lost('its thread ended');
        resolve();
      });
    });
  }

  get status(): readonly SinkStatus[] {
    return this.#sinks;
  }

  /** Gives the receivers what is sealed, at most for `deadlineMs`; the rest is for the next start. */
  async close(deadlineMs: number): Promise<void> {
    this.#isClosing = true;
    this.#worker.postMessage({ deadlineMs } satisfies ToSinks);
    const late = systemClock.after(deadlineMs + END_GRACE_MS, () => void this.#worker.terminate());
    await this.#gone;
    late.cancel();
  }

  #take(message: FromSinks): void {
    if (message.kind === 'status') this.#sinks = message.sinks;
    else if (message.kind === 'log') this.#logger[message.level](message.fields, message.text);
  }

  #lost(error: string): void {
    this.#sinks = this.#sinks.map((sink) => ({ ...sink, state: 'ended', error }));
    this.#logger.error(
      { error },
      'live audit sinks ended; events are kept for the next start up to their limit',
    );
  }
}
