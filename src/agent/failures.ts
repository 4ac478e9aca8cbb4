import type { StreamFailure } from '../protocol/index.ts';

/** Failed streams kept per connection, newest first. */
const KEPT_PER_CONNECTION = 20;
const MAX_CONNECTIONS = 1_024;
/** Failures waiting to be told to the relay nodes; more are told of by count alone, in the metrics. */
const MAX_UNTOLD = 200;

/** Remembers the last failures of each connection, for `sallyport why`. */
export class FailureLog {
  readonly #byConnection = new Map<string, StreamFailure[]>();
  #untold: StreamFailure[] = [];
  readonly #onNews: () => void;

  /** @param onNews is told when the first untold failure came */
  constructor(onNews: () => void = () => undefined) {
    this.#onNews = onNews;
  }

  add(failure: StreamFailure): void {
    const list = this.#byConnection.get(failure.connection) ?? [];
    list.unshift(failure);
    if (list.length > KEPT_PER_CONNECTION) list.pop();
    this.#byConnection.delete(failure.connection);
    this.#byConnection.set(failure.connection, list);
    const oldest = this.#byConnection.keys().next().value;
    if (this.#byConnection.size > MAX_CONNECTIONS && oldest !== undefined) this.#byConnection.delete(oldest);
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

  /** The newest `count` of each connection, newest first. */
  latest(count: number): readonly StreamFailure[] {
    return [...this.#byConnection.values()].flatMap((list) => list.slice(0, count));
  }
}
