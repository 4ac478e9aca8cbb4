/** What to read again. */
export interface Hints {
  readonly everything: boolean;
  readonly revocations: readonly string[];
  readonly connections: boolean;
}

export const EVERYTHING: Hints = { everything: true, revocations: [], connections: true };

/** More hinted revocations than this are read with a full read. */
const MAX_SINGLE_READS = 200;

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export interface HintCalls {
  readonly onKeysChanged: (connection: string | undefined) => void;
  readonly onAcknowledged: (revocationId: string) => void;
  readonly onChanged: () => void;
}

/** Collects notifications and reads what they name, one read at a time; a hint during a read reads again. */
export class HintPump {
  readonly #calls: HintCalls;
  readonly #read: (hints: Hints) => Promise<void>;
  readonly #revocations = new Set<string>();
  #everything = false;
  #connections = false;
  #onError: ((error: unknown) => void) | undefined;
  #reading = false;

  constructor(calls: HintCalls, read: (hints: Hints) => Promise<void>) {
    this.#calls = calls;
    this.#read = read;
  }

  /** Begins to read what was hinted so far and will be; a failed read ends it. */
  open(onError: (error: unknown) => void): void {
    this.#onError = onError;
    void this.#pump();
  }

  /** Takes a notification's payload: `revocation ID`, `connection`, `keys NAME`, `keys *`, `ack ID`. */
  hint(payload: string): void {
    const [word, value = ''] = payload.split(' ', 2);
    switch (word) {
      case 'ack':
        this.#calls.onAcknowledged(value);
        return;
      case 'keys':
        this.#calls.onKeysChanged(value === '*' ? undefined : value);
        this.#calls.onChanged();
        return;
      case 'revocation':
        if (UUID.test(value)) this.#revocations.add(value);
        else this.#everything = true;
        break;
      case 'connection':
        this.#connections = true;
        break;
      case 'outbox':
        this.#calls.onChanged();
        return;
      default:
        this.#everything = true;
    }
    void this.#pump();
  }

  async #pump(): Promise<void> {
    if (this.#reading || this.#onError === undefined) return;
    this.#reading = true;
    try {
      while (this.#everything || this.#connections || this.#revocations.size > 0) {
        const everything = this.#everything || this.#revocations.size > MAX_SINGLE_READS;
        const hints = { everything, revocations: [...this.#revocations], connections: this.#connections };
        this.#everything = false;
        this.#connections = false;
        this.#revocations.clear();
        await this.#read(hints);
        if (hints.connections || hints.revocations.length > 0) this.#calls.onChanged();
      }
    } catch (error) {
      this.#onError(error);
      this.#onError = undefined;
    } finally {
      this.#reading = false;
    }
  }
}
