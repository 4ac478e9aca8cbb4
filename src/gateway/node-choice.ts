import type { Clock } from '../runtime/index.ts';

interface NodeState {
  /** Whether the node says that it hears its control database; undefined before it said anything of it. */
  isHealthy: boolean | undefined;
  /** It left a request unanswered, and nothing has been heard from it since. */
  isSilent: boolean;
  /** Monotonic time at which the node stops; undefined when it does not. */
  stopsMs: number | undefined;
}

/** Nodes that say they are well come first, then those that say they are not, then those that say nothing. */
const rankOf = (state: NodeState | undefined): number => {
  if (state?.isSilent === true) return 2;
  return state?.isHealthy === false ? 1 : 0;
};

/** What this process knows of its relay nodes by what they say and leave unsaid, and which is asked first for it. */
export class NodeChoice {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #states = new Map<string, NodeState>();

  /** @param random fractions in [0, 1) */
  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  /** The node said something: it is silent no more. */
  heard(node: string): void {
    this.#stateOf(node).isSilent = false;
  }

  /** The node left a request unanswered for longer than an answer takes. */
  silent(node: string): void {
    this.#stateOf(node).isSilent = true;
  }

  /** The node said whether it hears its control database. */
  health(node: string, isHealthy: boolean): void {
    const state = this.#stateOf(node);
    state.isHealthy = isHealthy;
    state.isSilent = false;
  }

  /** The control link to the node is gone: what was known of it holds no longer. */
  gone(node: string): void {
    this.#states.delete(node);
  }

  /** The node said that it stops in `deadlineMs`. */
  leaving(node: string, deadlineMs: number): void {
    this.#stateOf(node).stopsMs = this.#clock.monotonicMs() + deadlineMs;
  }

  /** In how many milliseconds the node stops; undefined when it has not said so. */
  leavesInMs(node: string): number | undefined {
    const stopsMs = this.#states.get(node)?.stopsMs;
    return stopsMs === undefined ? undefined : Math.max(0, stopsMs - this.#clock.monotonicMs());
  }

  /** Nodes that said that they hear their control database, with their control link up. */
  healthy(): string[] {
    return [...this.#states].filter(([, { isHealthy }]) => isHealthy === true).map(([node]) => node);
  }

  /**
   * The nodes in the order in which they are asked: silent ones last, fenced ones before them; among equals the one
   * with the fewest links first, so that no node takes all of them along; among those at random.
   */
  order(nodes: readonly string[], linksAt: (node: string) => number): string[] {
    return nodes
      .map((node) => ({
        node,
        rank: rankOf(this.#states.get(node)),
        links: linksAt(node),
        at: this.#random(),
      }))
      .sort((left, right) => left.rank - right.rank || left.links - right.links || left.at - right.at)
      .map(({ node }) => node);
  }

  #stateOf(node: string): NodeState {
    let state = this.#states.get(node);
    if (state === undefined) {
      state = { isHealthy: undefined, isSilent: false, stopsMs: undefined };
      this.#states.set(node, state);
    }
    return state;
  }
}
