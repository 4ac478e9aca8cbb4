import type { StreamFailure } from '../protocol/index.ts';

/** Failed streams kept per connection, newest first. */
const KEPT_PER_CONNECTION = 20;
/** Failures waiting to be told to the relay nodes; the oldest go first. */
const MAX_UNTOLD = 50;

/** Remembers the last failures of each connection, for `/status` and `sallyport why`. */
export class FailureLog {
  readonly #byConnection = new Map<string, StreamFailure[]>();
  readonly #onNews: () => void;
  #untold: StreamFailure[] = [];

  /** @param onNews is told when the first untold failure came */
  constructor(onNews: () => void) {
    this.#onNews = onNews;
  }

  add(failure: StreamFailure): void {
    const list = this.#byConnection.get(failure.connection) ?? [];
    list.unshift(failure);
    if (list.length > KEPT_PER_CONNECTION) list.pop();
    this.#byConnection.set(failure.connection, list);
    if (this.#untold.length >= MAX_UNTOLD) this.#untold.shift();
    this.#untold.push(failure);
    if (this.#untold.length === 1) this.#onNews();
  }

  /** What came since the last call, oldest first. */
  takeNews(): readonly StreamFailure[] {
    const news = this.#untold;
    this.#untold = [];
    return news;
  }

  /** The newest `count` of one connection, newest first. */
  of(connection: string, count: number): readonly StreamFailure[] {
    return (this.#byConnection.get(connection) ?? []).slice(0, count);
  }
}
