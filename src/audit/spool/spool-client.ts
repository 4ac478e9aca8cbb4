import type { Worker } from 'node:worker_threads';
import { startWorker } from '../../runtime/index.ts';
import { auditError, type AuditErrorCode } from '../errors.ts';
import type { FromSpool, SpoolItem, SpoolState, SpoolWorkerOptions, ToSpool } from './messages.ts';

export type Ready = Extract<FromSpool, { kind: 'ready' }>;
export type Appended = Extract<FromSpool, { kind: 'appended' }>;
type Answer = 'appended' | 'pulled' | 'refused' | 'sealed' | 'closed';
type AnswerOf<K extends Answer> = Extract<FromSpool, { kind: K }>;

export interface SpoolEvents {
  onState(state: SpoolState): void;
  onGap(dropped: number): void;
  onWarning(message: string): void;
  /** The worker ended without being told to. */
  onLost(error: Error): void;
}

interface Waiting {
  readonly resolve: (message: never) => void;
  readonly reject: (error: Error) => void;
}

/** The main thread's end of the spool worker. Requests of one kind are answered in their order. */
export class SpoolClient {
  readonly #worker: Worker;
  readonly #waiting = new Map<Answer, Waiting[]>();
  #ended = false;

  private constructor(worker: Worker) {
    this.#worker = worker;
  }

  /** @throws AppError ERR_AUDIT_SPOOL_OPEN, ERR_AUDIT_KEY_INVALID */
  static open(
    options: SpoolWorkerOptions,
    events: SpoolEvents,
  ): Promise<{ client: SpoolClient; ready: Ready }> {
    const worker = startWorker(new URL('./spool-worker.ts', import.meta.url), {
      workerData: options,
      transferList: options.live === undefined ? [] : [options.live.port],
    });
    const client = new SpoolClient(worker);
    return new Promise((resolve, reject) => {
      let opened = false;
      const lost = (error: Error): void => {
        if (client.#ended) return;
        client.#ended = true;
        for (const waiting of client.#waiting.values()) for (const { reject: give } of waiting) give(error);
        client.#waiting.clear();
        if (opened) events.onLost(error);
        else reject(error);
      };
      worker.on('error', (error) =>
        lost(auditError('ERR_AUDIT_SPOOL_OPEN', `spool worker failed: ${String(error)}`, { cause: error })),
      );
      worker.on('exit', () => lost(auditError('ERR_AUDIT_SPOOL_OPEN', 'spool worker ended')));
      worker.on('message', (message: FromSpool) => {
        if (message.kind === 'ready') {
          opened = true;
          resolve({ client, ready: message });
        } else if (message.kind === 'failedToOpen') {
          client.#ended = true;
          const text = `spool ${options.spoolDir} cannot be opened: ${message.message}`;
          reject(auditError(message.code as AuditErrorCode, text));
        } else if (message.kind === 'gap') {
          events.onGap(message.dropped);
        } else if (message.kind === 'warning') {
          events.onWarning(message.message);
        } else {
          events.onState(message.state);
          if (message.kind !== 'state') client.#answer(message.kind, message);
        }
      });
    });
  }

  append(chain: string, items: readonly SpoolItem[]): Promise<Appended> {
    return this.#ask('appended', { kind: 'append', chain, items });
  }

  pull(maxBytes: number): Promise<AnswerOf<'pulled'>> {
    return this.#ask('pulled', { kind: 'pull', maxBytes });
  }

  refuse(chain: string): Promise<AnswerOf<'refused'>> {
    return this.#ask('refused', { kind: 'refuse', chain });
  }

  acknowledge(chain: string, batch: number): void {
    this.#send({ kind: 'acknowledge', chain, batch });
  }

  /** Seals what is unsealed; `final` ends the chain. */
  seal(final: boolean): Promise<AnswerOf<'sealed'>> {
    return this.#ask('sealed', { kind: 'seal', final });
  }

  /** Saves the head and ends the worker. */
  async close(): Promise<void> {
    if (this.#ended) return;
    const closed = this.#ask('closed', { kind: 'close' });
    const gone = new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
    await closed;
    this.#ended = true;
    await gone;
  }

  #ask<K extends Answer>(kind: K, message: ToSpool): Promise<AnswerOf<K>> {
    return new Promise((resolve, reject) => {
      if (this.#ended) {
        reject(auditError('ERR_AUDIT_UNAVAILABLE', 'the spool is closed'));
        return;
      }
      const waiting = this.#waiting.get(kind) ?? [];
      waiting.push({ resolve, reject });
      this.#waiting.set(kind, waiting);
      this.#send(message);
    });
  }

  #answer(kind: Answer, message: FromSpool): void {
    this.#waiting
      .get(kind)
      ?.shift()
      ?.resolve(message as never);
  }

  #send(message: ToSpool): void {
    if (!this.#ended) this.#worker.postMessage(message);
  }
}
