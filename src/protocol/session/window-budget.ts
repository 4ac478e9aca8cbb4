import {
  LINK_GROWTH_BYTES,
  MAX_WINDOW_BYTES,
  MIN_WINDOW_CAP_BYTES,
  PROCESS_GROWTH_BYTES,
  WINDOW_BYTES_PER_SECOND,
} from './constants.ts';

/** What receive windows may grow beyond their start, summed over a link, within the sum of the process. */
export class WindowBudget {
  readonly #limitBytes: number;
  readonly #parent: WindowBudget | undefined;
  #usedBytes = 0;
  /** Where the window of a single stream stops growing. */
  windowCapBytes = MAX_WINDOW_BYTES;

  constructor(limitBytes: number, parent?: WindowBudget) {
    this.#limitBytes = limitBytes;
    this.#parent = parent;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** True when the bytes were reserved, here and in the parent. */
  reserve(bytes: number): boolean {
    if (this.#usedBytes + bytes > this.#limitBytes) return false;
    if (this.#parent !== undefined && !this.#parent.reserve(bytes)) return false;
    this.#usedBytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#usedBytes -= bytes;
    this.#parent?.release(bytes);
  }
}

/** The cap for a window on a link whose least round trip is known. */
export const windowCapFor = (leastRttMs: number): number =>
  Math.min(MAX_WINDOW_BYTES, Math.max(MIN_WINDOW_CAP_BYTES, (leastRttMs / 1000) * WINDOW_BYTES_PER_SECOND));

const processBudget = new WindowBudget(PROCESS_GROWTH_BYTES);

/** The budget of one link, within the one of the process. */
export const linkBudget = (): WindowBudget => new WindowBudget(LINK_GROWTH_BYTES, processBudget);
