import { appendFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, makePrivateDirectory, PRIVATE_FILE_MODE } from '../../runtime/index.ts';

/** A file is closed when it passes this. */
const FILE_BYTES = 64 * 1024 * 1024;

/**
 * Rotating JSON lines for pick-up by a SIEM: `audit-YYYYMMDD-NNNN.jsonl`, one line
 * `{"chain":…,"seq":…,"event":…}` per sealed event. At least once: after a crash some lines may come again,
 * told apart by chain and seq.
 */
export class JsonlSink {
  readonly #directory: string;
  readonly #clock: Clock;
  #day = '';
  #number = 0;
  #bytes = 0;

  /** @throws what the disk throws when the directory cannot be made. */
  constructor(directory: string, clock: Clock) {
    this.#directory = directory;
    this.#clock = clock;
    makePrivateDirectory(directory);
  }

  /** Appends a batch's events in order. @throws what the disk throws. */
  write(chain: string, firstSeq: number, events: readonly Buffer[]): void {
    if (events.length === 0) return;
    const parts: Buffer[] = [];
    for (const [index, event] of events.entries()) {
      parts.push(
        Buffer.from(`{"chain":"${chain}","seq":${firstSeq + index},"event":`),
        event,
        Buffer.from('}\n'),
      );
    }
    const bytes = Buffer.concat(parts);
    appendFileSync(this.#file(), bytes, { mode: PRIVATE_FILE_MODE });
    this.#bytes += bytes.length;
  }

  #file(): string {
    const day = new Date(this.#clock.nowMs()).toISOString().slice(0, 10).replaceAll('-', '');
    if (day !== this.#day) {
      this.#day = day;
      const mine = readdirSync(this.#directory).filter((name) => name.startsWith(`audit-${day}-`));
      this.#number = mine.length;
      this.#bytes = FILE_BYTES;
    }
    if (this.#bytes >= FILE_BYTES) {
      this.#number += 1;
      this.#bytes = 0;
    }
    return join(this.#directory, `audit-${this.#day}-${String(this.#number).padStart(4, '0')}.jsonl`);
  }
}
