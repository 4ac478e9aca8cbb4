import {
  type Clock,
  type CloseReason,
  type Logger,
  messageOf,
  type Timer,
  type TimerWheel,
} from '../runtime/index.ts';
import type { GuardSettings, ManagedSettings } from '../policy/index.ts';
import { dialRefusal } from './dial-refusal.ts';
import { type Connect, Dial } from './dialler.ts';
import type { Publication } from './publication.ts';
import type { Resolver } from './resolver.ts';
import type { TargetHealth } from './target-health.ts';

/** How often it is looked whether a probe is due. */
const TICK_MS = 1_000;

export interface ProberDeps {
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly logger: Logger;
  readonly resolver: Resolver;
  readonly connect: Connect;
  readonly health: TargetHealth;
  /** By connection: a probe is due this long after anybody dialled; connections that are not probed are not there. */
  readonly intervalsMs: () => ReadonlyMap<string, number>;
  readonly published: () => readonly Publication[];
  /** Whether the agent dials nothing any more, or not now. */
  readonly isBarred: () => boolean;
  readonly connectTimeoutMs: () => number;
  /** Asked just before each connect(), as for a stream. */
  readonly guard: () => GuardSettings;
  readonly managed: () => ManagedSettings;
  readonly onProbed: (result: 'reachable' | 'unreachable') => void;
}

/**
 * Connects to targets that nobody has dialled for a while, and closes at once: no byte is sent, and nothing that a
 * server says is read. It dials only what is published, over addresses that the recorded decision to publish allows.
 */
export class TargetProber {
  readonly #deps: ProberDeps;
  readonly #timer: Timer;
  /** By connection; undefined while its name is looked up. */
  readonly #running = new Map<string, Dial | undefined>();
  #isClosed = false;

  constructor(deps: ProberDeps) {
    this.#deps = deps;
    this.#timer = deps.clock.every(TICK_MS, () => this.#tick()).unref();
  }

  close(): void {
    this.#isClosed = true;
    this.#timer.cancel();
    for (const dial of this.#running.values()) dial?.abort();
    this.#running.clear();
  }

  #tick(): void {
    const { intervalsMs, health, logger } = this.#deps;
    for (const [connection, intervalMs] of intervalsMs()) {
      const ageMs = health.ageMs(connection);
      if (this.#running.has(connection) || (ageMs !== undefined && ageMs < intervalMs)) continue;
      this.#running.set(connection, undefined);
      this.#probe(connection).catch((error: unknown) => {
        this.#running.delete(connection);
        logger.error({ connection, err: messageOf(error) }, 'a probe of a target failed');
      });
    }
  }

  /** What may be dialled now for a connection; undefined when it is not published, or nothing is dialled. */
  #allowed(connection: string) {
    if (this.#isClosed || this.#deps.isBarred()) return undefined;
    const found = this.#deps.published().find(({ credential }) => credential.connection === connection);
    const target = found?.connection?.target;
    if (target === undefined || found?.decision?.allow !== true) return undefined;
    return { target, addresses: found.decision.allowed_addresses };
  }

  async #probe(connection: string): Promise<void> {
    const { resolver, clock, wheel, connect, connectTimeoutMs, guard, managed, health } = this.#deps;
    const asked = this.#allowed(connection)?.target.host;
    const resolution = asked === undefined ? undefined : await resolver.resolve(asked);
    // What holds now counts: from here to connect() nothing yields.
    const now = this.#allowed(connection);
    if (resolution === undefined || now === undefined || now.target.host !== asked) {
      this.#running.delete(connection);
      return;
    }
    if (!resolution.ok) {
      this.#failed(connection, 'dns_failure', `${asked}: ${resolution.detail}`);
      return;
    }
    const addresses = resolution.addresses.filter((address) => now.addresses.includes(address));
    if (addresses.length === 0) {
      // Other addresses are nobody's to dial before publishing is decided again.
      this.#running.delete(connection);
      return;
    }
    const { port } = now.target;
    const startedMs = clock.monotonicMs();
    const refuse = dialRefusal(guard, managed, now.target);
    const plan = { addresses, port, connectTimeoutMs: connectTimeoutMs(), refuse };
    const dial = new Dial(plan, connect, wheel, {
      onConnected: (socket, address) => {
        socket.on('error', () => undefined);
        socket.destroy();
        this.#running.delete(connection);
        health.reached(connection, 'probe', address, clock.monotonicMs() - startedMs);
        this.#deps.onProbed('reachable');
      },
      onFailed: ({ reason, detail }) => this.#failed(connection, reason, detail),
    });
    this.#running.set(connection, dial);
    dial.start();
  }

  #failed(connection: string, reason: CloseReason, detail: string): void {
    this.#running.delete(connection);
    this.#deps.health.failed(connection, 'probe', reason, detail);
    this.#deps.onProbed('unreachable');
  }
}
