import { MAX_FRAME_BYTES } from './constants.ts';

/** Where a stream stands: on no lane, or on one of the two of the list. */
export const LANE = { none: 0, small: 1, bulk: 2 } as const;
export type Lane = (typeof LANE)[keyof typeof LANE];

/** A member carries its own links, so that joining and leaving cost nothing to allocate. */
export interface Waiter {
  lane: Lane;
  /** Bytes it may still send in this round of deficit round robin. */
  deficitBytes: number;
  previous: this | undefined;
  next: this | undefined;
}

class Ring<W extends Waiter> {
  head: W | undefined;
  #tail: W | undefined;

  append(waiter: W): void {
    waiter.previous = this.#tail;
    waiter.next = undefined;
    if (this.#tail === undefined) this.head = waiter;
    else this.#tail.next = waiter;
    this.#tail = waiter;
  }

  remove(waiter: W): void {
    if (waiter.previous === undefined) this.head = waiter.next;
    else waiter.previous.next = waiter.next;
    if (waiter.next === undefined) this.#tail = waiter.previous;
    else waiter.next.previous = waiter.previous;
    waiter.previous = undefined;
    waiter.next = undefined;
  }
}

/**
 * The streams that have something to send and may: each at most once. Streams with little to send stand on a
 * lane of their own, served first within a share that the writer sets; the others take turns by deficit
 * round robin (Shreedhar and Varghese, 1995) with a quantum of one full frame.
 */
export class WaitingList<W extends Waiter> {
  readonly #small = new Ring<W>();
  readonly #bulk = new Ring<W>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get firstSmall(): W | undefined {
    return this.#small.head;
  }

  get firstBulk(): W | undefined {
    return this.#bulk.head;
  }

  /** Nothing when it is on the list already. */
  add(waiter: W, small: boolean): void {
    if (waiter.lane !== LANE.none) return;
    waiter.lane = small ? LANE.small : LANE.bulk;
    waiter.deficitBytes = small ? 0 : MAX_FRAME_BYTES;
    (small ? this.#small : this.#bulk).append(waiter);
    this.#size += 1;
  }

  remove(waiter: W): void {
    if (waiter.lane === LANE.none) return;
    (waiter.lane === LANE.small ? this.#small : this.#bulk).remove(waiter);
    waiter.lane = LANE.none;
    this.#size -= 1;
  }

  /** Ends a turn of the first of the bulk lane: to the back, with a fresh quantum. */
  rotate(waiter: W): void {
    this.#bulk.remove(waiter);
    waiter.deficitBytes = MAX_FRAME_BYTES;
    this.#bulk.append(waiter);
  }

  /** Every member in order of its lanes. */
  *[Symbol.iterator](): Generator<W> {
    for (const ring of [this.#small, this.#bulk]) {
      for (let waiter = ring.head; waiter !== undefined; waiter = waiter.next) yield waiter;
    }
  }
}
