import { connect, type TLSSocket } from 'node:tls';
import { type Clock, parseHostPort, sleep } from '../../runtime/index.ts';
import type { SinkEvent } from './backlog.ts';
import type { Feed, LiveSink } from './feed.ts';
import type { SyslogSettings } from './sink-settings.ts';
import { octetCounted, syslogMessage } from './syslog-message.ts';
import { tlsOptionsOf } from './tls-files.ts';

const SECOND_MS = 1_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** A receiver that reads nothing for this long is given up. */
const STALL_MS = 60_000;
/** At least so long a connection is watched after its last write; see `settle`. */
const MIN_SETTLE_MS = 50;
/** So long a receiver may take to answer the end of a connection: it reads first what is on the way. */
const CLOSE_TIMEOUT_MS = 30_000;
/** Canonical bytes that go out in one write. */
const WRITE_BYTES = 256 * 1024;
/** A connection carries no more than about this: so much comes again when it breaks. */
const CONNECTION_BYTES = 1024 * 1024;

/** A TLS connection to a receiver, which sends nothing itself. */
class Connection {
  readonly #socket: TLSSocket;
  readonly #clock: Clock;
  readonly #ended: Promise<void>;
  readonly #failed: Promise<never>;
  readonly #startedMs: number;
  #handshakeMs = 0;
  #fail: (error: Error) => void = () => undefined;

  constructor(socket: TLSSocket, clock: Clock, signal: AbortSignal) {
    this.#socket = socket;
    this.#clock = clock;
    this.#startedMs = clock.monotonicMs();
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.#failed.catch(() => undefined);
    socket.on('error', (error: Error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the connection is closed')));
    const abort = (): void => this.#fail(signal.reason as Error);
    signal.addEventListener('abort', abort, { once: true });
    socket.once('close', () => signal.removeEventListener('abort', abort));
    this.#ended = new Promise((resolve) => {
      socket.once('end', resolve);
    });
    socket.resume();
  }

  /** Resolves with what the call does unless the connection ends before. */
  whileOpen<T>(call: Promise<T>): Promise<T> {
    const early = this.#ended.then((): never => {
      throw new Error('the receiver ended the connection');
    });
    early.catch(() => undefined);
    return Promise.race([call, early, this.#failed]);
  }

  async ready(): Promise<void> {
    const secure = new Promise<void>((resolve) => {
      this.#socket.once('secureConnect', resolve);
    });
    await this.whileOpen(this.#within(secure, CONNECT_TIMEOUT_MS, 'no connection'));
    this.#handshakeMs = this.#clock.monotonicMs() - this.#startedMs;
  }

  /**
   * Waits for a round trip and more (a handshake took as long): an end that the receiver sent before the last write
   * reached it is then seen as what it is, and not taken for an answer.
   */
  settle(): Promise<void> {
    return this.whileOpen(sleep(this.#clock, Math.max(MIN_SETTLE_MS, this.#handshakeMs)));
  }

  /** Resolves when the kernel has it. */
  write(bytes: Buffer): Promise<void> {
    const written = new Promise<void>((resolve) => {
      this.#socket.write(bytes, () => resolve());
    });
    return this.whileOpen(this.#within(written, STALL_MS, 'the receiver reads nothing'));
  }

  /**
   * Ends in order (close_notify) and waits for the same from the receiver, which gives it after it has read everything
   * (RFC 5425 §4.4). False when it does not.
   */
  async end(): Promise<boolean> {
    this.#socket.end();
    const late = this.#within(this.#ended, CLOSE_TIMEOUT_MS, 'late').then(
      () => true,
      () => false,
    );
    return Promise.race([late, this.#failed]);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #within<T>(call: Promise<T>, deadlineMs: number, what: string): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(deadlineMs, () =>
        reject(new Error(`${what} within ${deadlineMs / SECOND_MS} s`)),
      );
      void call.then(resolve, reject).finally(() => timer.cancel());
    });
  }
}

/**
 * RFC 5424 messages over TLS with octet counting (RFC 5425). The protocol acknowledges nothing but the end of a
 * connection, so that is what confirms: a connection lives for `confirm_seconds` or a mebibyte, and what it carried
 * comes again unless the receiver answered its end.
 */
export class SyslogSink implements LiveSink {
  readonly #settings: SyslogSettings;
  readonly #hostName: string;
  readonly #clock: Clock;
  /** A receiver that has left an end unanswered, and the one after it, is believed without from then on. */
  #isSilent = false;

  constructor(settings: SyslogSettings, hostName: string, clock: Clock) {
    this.#settings = settings;
    this.#hostName = hostName;
    this.#clock = clock;
  }

  async run(feed: Feed, signal: AbortSignal): Promise<void> {
    let events = feed.take(WRITE_BYTES);
    if (events.length === 0) return;
    const connection = this.#connect(signal);
    try {
      await connection.ready();
      const untilMs = this.#clock.monotonicMs() + this.#settings.confirm_seconds * SECOND_MS;
      let last: SinkEvent | undefined;
      for (let bytes = 0; events.length > 0; ) {
        const frames = Buffer.concat(events.map((event) => this.#frame(event)));
        await connection.write(frames);
        last = events.at(-1);
        bytes += frames.length;
        const leftMs = untilMs - this.#clock.monotonicMs();
        if (bytes >= CONNECTION_BYTES || leftMs <= 0) break;
        await connection.whileOpen(feed.arrival(leftMs));
        events = feed.take(WRITE_BYTES);
      }
      await connection.settle();
      const answered = await connection.end();
      if (!answered && !this.#isSilent) {
        this.#isSilent = true;
        throw new Error('the receiver does not answer the end of a connection');
      }
      if (answered) this.#isSilent = false;
      if (last !== undefined) feed.confirm(last, { isUnconfirmed: !answered });
    } finally {
      connection.destroy();
    }
  }

  #frame(event: SinkEvent): Buffer {
    return octetCounted(syslogMessage(event, this.#settings, this.#hostName));
  }

  #connect(signal: AbortSignal): Connection {
    const { host, port } = parseHostPort(this.#settings.address);
    return new Connection(connect({ host, port, ...tlsOptionsOf(this.#settings) }), this.#clock, signal);
  }
}
