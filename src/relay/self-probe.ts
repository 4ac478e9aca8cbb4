import { probe } from '../protocol/index.ts';
import { type Clock, type Logger, messageOf, type Timer } from '../runtime/index.ts';

/** A node dials its own public address this often. */
export const SELF_PROBE_EVERY_MS = 10_000;
/** Times each port is dialled in one round: what balances connections rarely gives all of them to one node. */
export const DIALS_PER_ROUND = 3;
/** A foreign answer counts this long: a balancer between two nodes hides for 18 dials once in 260,000 times. */
export const CONFLICT_KEPT_MS = 60_000;

export interface SelfProbeOptions {
  readonly host: string;
  /** The public ports, each once. */
  readonly ports: readonly number[];
  /** What this process answers to probes. */
  readonly run: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Conflict {
  readonly reason: string;
  readonly seenMs: number;
}

/**
 * Sees whether what agents and gateways dial as this node is this process alone. Both ends of a link dial the node by
 * name; behind an address that several nodes share they would not meet. An address that this machine cannot reach
 * itself (no way back through its own NAT) says nothing.
 */
export class SelfProbe {
  readonly #options: SelfProbeOptions;
  readonly #stopping = new AbortController();
  readonly #conflicts = new Map<number, Conflict>();
  #timer: Timer | undefined;
  #round: Promise<void> | undefined;
  #reached: boolean | undefined;

  constructor(options: SelfProbeOptions) {
    this.#options = options;
  }

  /** Probes now and from then on. */
  start(): void {
    this.#timer ??= this.#options.clock.every(SELF_PROBE_EVERY_MS, () => this.#probe()).unref();
    this.#probe();
  }

  /** Ends what is under way. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    this.#stopping.abort();
    await this.#round;
  }

  /** Who else answers in this node's place. */
  conflicts(): string[] {
    const nowMs = this.#options.clock.monotonicMs();
    return [...this.#conflicts.values()]
      .filter(({ seenMs }) => nowMs - seenMs < CONFLICT_KEPT_MS)
      .map(({ reason }) => reason);
  }

  #probe(): void {
    if (this.#round !== undefined || this.#stopping.signal.aborted) return;
    this.#round = this.#ask().finally(() => {
      this.#round = undefined;
    });
  }

  async #ask(): Promise<void> {
    let reached = false;
    for (let dials = 0; dials < DIALS_PER_ROUND; dials += 1) {
      const answers = await Promise.all(this.#options.ports.map((port) => this.#dial(port)));
      reached ||= answers.includes(true);
    }
    if (reached === this.#reached || this.#stopping.signal.aborted) return;
    this.#reached = reached;
    const { host, ports, logger } = this.#options;
    logger.info({ host, ports, reached }, 'whether this node reaches its own public address');
  }

  /** Whether a relay answered. */
  async #dial(port: number): Promise<boolean> {
    const { host, run, clock, logger } = this.#options;
    const { signal } = this.#stopping;
    try {
      const answer = await probe(host, port, { clock, signal });
      if (answer.run === run || signal.aborted) return true;
      const reason = `${host}:${port} is answered by another process as well (public host ${answer.host}): a node needs an address of its own`;
      const nowMs = clock.monotonicMs();
      const known = this.#conflicts.get(port);
      if (known === undefined || nowMs - known.seenMs >= CONFLICT_KEPT_MS)
        logger.error({ host, port, answered: answer.host }, reason);
      this.#conflicts.set(port, { reason, seenMs: nowMs });
      return true;
    } catch (thrown) {
      logger.debug({ host, port, detail: messageOf(thrown) }, 'own public address not reached');
      return false;
    }
  }
}
