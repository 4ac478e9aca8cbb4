import {
  type Clock,
  type Logger,
  messageOf,
  randomFraction,
  sleep,
  type Timer,
} from '../../runtime/index.ts';
import type { RelayNodeConfig, Side } from '../link/offer.ts';
import type { CarrierMemory } from './carrier-memory.ts';
import type { SeenCertificate } from './certificate.ts';
import { type CarrierChoice, type CarrierKind, carrierChoices, controlPorts } from './choice.ts';
import type { ProxyFor } from './proxy.ts';
import { probeCarrier, type ProbeResult } from './probe-carrier.ts';

/** Carriers are probed this often while nothing fails. */
export const PROBE_EVERY_MS = 60 * 60 * 1_000;
/** Failures in a row after which they are probed. */
export const FAILURES_BEFORE_PROBE = 2;
/**
 * When a control link comes up and something is known to work, the probes begin after a random time up to this: after a
 * node's restart all its ends come back at once.
 */
export const PROBE_SPREAD_MS = 10_000;
/** From one round that failures asked for to the next. */
export const PROBE_PAUSE_MS = 30_000;
/** A link waits so long for the round that is under way when nothing is known to work. */
export const PROBE_WAIT_MS = 2_000;
/** What works is taken so long after it answered, although a preferred carrier may still answer. */
export const PREFERENCE_MS = 500;

type State = 'unknown' | 'works' | 'failed';

interface Carrier {
  readonly choice: CarrierChoice;
  state: State;
  /** Wall clock of the last news; undefined when there is none. */
  atMs: number | undefined;
  failure: string | undefined;
  interceptedBy: string | undefined;
  /** Links in a row that came to the node and not further. */
  brokenLinks: number;
}

/** A try of one port or carrier, as `/status` shows it. */
export interface CarrierStatus {
  readonly node: string;
  /** The proxy on the way, `http://HOST:PORT`; null: none. */
  readonly proxy: string | null;
  readonly control: {
    /** Null while the control link is down. */
    readonly port: number | null;
    readonly intercepted_by: string | null;
    /** Ports that failed since the control link was last up or before it came up. */
    readonly tried: readonly { readonly port: number; readonly error: string; readonly at: string }[];
  };
  readonly data: readonly {
    readonly carrier: CarrierKind;
    readonly port: number;
    readonly state: State;
    readonly intercepted_by: string | null;
    readonly error: string | null;
    readonly at: string | null;
  }[];
}

export interface NodeCarriersOptions {
  readonly node: RelayNodeConfig;
  readonly side: Side;
  readonly ca: string | undefined;
  readonly memory: CarrierMemory;
  readonly proxies: ProxyFor;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Replaced by tests. */
  readonly probe?: typeof probeCarrier;
}

const textOf = ({ kind, port }: CarrierChoice): string => `${kind} ${port}`;

const rankOf = ({ state, brokenLinks }: Carrier): number => {
  if (state === 'failed') return 3;
  if (state === 'unknown') return 1;
  return brokenLinks < FAILURES_BEFORE_PROBE ? 0 : 2;
};

/** What one process knows of its ways to one relay node: what works, what failed and why, and what is tried first. */
export class NodeCarriers {
  readonly #options: NodeCarriersOptions;
  readonly #logger: Logger;
  readonly #carriers: readonly Carrier[];
  readonly #closing = new AbortController();
  readonly #tried = new Map<number, { readonly error: string; readonly atMs: number }>();
  #controlPort: number | undefined;
  #controlInterceptedBy: string | undefined;
  /** The node's SPKI as it told last. */
  #told: string | undefined;
  #failures = 0;
  #round: Promise<void> | undefined;
  /** Resolves when the round that is under way has said what to take. */
  #decided: Promise<void> | undefined;
  #roundEndedMs: number | undefined;
  #hourly: Timer | undefined;
  #spread: Timer | undefined;

  constructor(options: NodeCarriersOptions) {
    this.#options = options;
    this.#logger = options.logger.child({ node: options.node.host });
    const { data } = options.memory.of(options.node.host);
    this.#carriers = carrierChoices(options.node).map((choice) => ({
      choice,
      state: data?.kind === choice.kind && data.port === choice.port ? 'works' : 'unknown',
      atMs: undefined,
      failure: undefined,
      interceptedBy: undefined,
      brokenLinks: 0,
    }));
  }

  /** The proxies on the way to the node. */
  get proxies(): ProxyFor {
    return this.#options.proxies;
  }

  /** The ports for control links: the one that worked last first, then in order. */
  controlPorts(): readonly number[] {
    const ports = controlPorts(this.#options.node);
    const last = this.#options.memory.of(this.#options.node.host).control_port;
    return last === undefined || !ports.includes(last)
      ? ports
      : [last, ...ports.filter((port) => port !== last)];
  }

  /** A control link did not come up by this port. */
  controlFailed(port: number, error: string): void {
    this.#tried.set(port, { error, atMs: this.#options.clock.nowMs() });
  }

  controlDown(): void {
    this.#controlPort = undefined;
  }

  /**
   * The control link is up: the carriers are probed, at once when nothing is known to work.
   *
   * @param seen the certificate that it was shown
   * @param told the SPKI that the node says it has
   */
  controlUp(port: number, seen: SeenCertificate | undefined, told: string | undefined): void {
    const { memory, node, clock } = this.#options;
    this.#controlPort = port;
    this.#tried.delete(port);
    this.#told = told;
    const isForeign = seen !== undefined && told !== undefined && seen.spki !== told;
    this.#controlInterceptedBy = isForeign ? seen.issuer : undefined;
    if (isForeign)
      this.#logger.warn({ port, issuer: seen.issuer }, `the control link is intercepted by ${seen.issuer}`);
    memory.keep(node.host, { control_port: port });
    this.#hourly?.cancel();
    this.#hourly = clock.every(PROBE_EVERY_MS, () => this.#forgive()).unref();
    this.#spread?.cancel();
    if (this.#best() === undefined) this.#forgive();
    else this.#spread = clock.after(randomFraction() * PROBE_SPREAD_MS, () => this.#forgive()).unref();
  }

  /**
   * The carriers in the order in which a link tries them: those that work, in order of preference, then what is not
   * known, then what failed. While nothing is known to work it waits for the round that is under way.
   */
  async order(signal?: AbortSignal): Promise<readonly CarrierChoice[]> {
    if (this.#decided !== undefined && !this.#carriers.some(({ state }) => state === 'works')) {
      const over = new AbortController();
      const ends = AbortSignal.any([
        over.signal,
        this.#closing.signal,
        ...(signal === undefined ? [] : [signal]),
      ]);
      const waited = sleep(this.#options.clock, PROBE_WAIT_MS, ends).catch(() => undefined);
      await Promise.race([this.#decided, waited]);
      over.abort();
    }
    return [...this.#carriers]
      .sort((left, right) => rankOf(left) - rankOf(right))
      .map(({ choice }) => choice);
  }

  /** A link came to the node this way, or did not. */
  tried(choice: CarrierChoice, failure: string | undefined): void {
    const carrier = this.#find(choice);
    if (carrier === undefined) return;
    this.#set(carrier, failure);
    if (failure !== undefined) this.#failed();
  }

  /** A link that had come this way is up, or broke before it was. */
  settled(choice: CarrierChoice, isUp: boolean): void {
    const carrier = this.#find(choice);
    if (carrier === undefined) return;
    if (isUp) {
      carrier.brokenLinks = 0;
      this.#failures = 0;
      this.#options.memory.keep(this.#options.node.host, { data: choice });
      return;
    }
    carrier.brokenLinks += 1;
    this.#failed();
  }

  status(): CarrierStatus {
    const instant = (ms: number): string => new Date(ms).toISOString();
    return {
      node: this.#options.node.host,
      proxy: this.#proxy(),
      control: {
        port: this.#controlPort ?? null,
        intercepted_by: this.#controlInterceptedBy ?? null,
        tried: [...this.#tried].map(([port, { error, atMs }]) => ({ port, error, at: instant(atMs) })),
      },
      data: this.#carriers.map(({ choice, state, atMs, failure, interceptedBy }) => ({
        carrier: choice.kind,
        port: choice.port,
        state,
        intercepted_by: interceptedBy ?? null,
        error: failure ?? null,
        at: atMs === undefined ? null : instant(atMs),
      })),
    };
  }

  /** Ends the probes that are under way. */
  async close(): Promise<void> {
    this.#hourly?.cancel();
    this.#spread?.cancel();
    this.#closing.abort(new Error('closed'));
    await this.#round;
  }

  /** Of the first port for control links; exclusions seldom name ports. */
  #proxy(): string | null {
    const { node, proxies } = this.#options;
    const [port = 0] = controlPorts(node);
    try {
      return proxies(node.host, port)?.url.origin ?? null;
    } catch (thrown) {
      return messageOf(thrown);
    }
  }

  #find({ kind, port }: CarrierChoice): Carrier | undefined {
    return this.#carriers.find(({ choice }) => choice.kind === kind && choice.port === port);
  }

  #set(carrier: Carrier, failure: string | undefined): void {
    carrier.state = failure === undefined ? 'works' : 'failed';
    carrier.failure = failure;
    carrier.atMs = this.#options.clock.nowMs();
  }

  #failed(): void {
    this.#failures += 1;
    const { clock } = this.#options;
    const isEarly =
      this.#roundEndedMs !== undefined && clock.monotonicMs() - this.#roundEndedMs < PROBE_PAUSE_MS;
    if (this.#failures < FAILURES_BEFORE_PROBE || isEarly) return;
    this.#failures = 0;
    this.#probe();
  }

  /** Begins anew: what links broke on may be mended. */
  #forgive(): void {
    for (const carrier of this.#carriers) carrier.brokenLinks = 0;
    this.#probe();
  }

  #probe(): void {
    if (this.#round !== undefined || this.#closing.signal.aborted) return;
    const before = this.#best();
    const results = this.#carriers.map((carrier) => this.#ask(carrier));
    const all = Promise.all(results).then(() => undefined);
    const over = new AbortController();
    this.#decided = new Promise((resolve) => {
      const decide = (): void => resolve();
      void all.then(decide);
      for (const [index, result] of results.entries()) {
        void result.then((works) => {
          if (!works) return;
          if (index === 0) decide();
          else sleep(this.#options.clock, PREFERENCE_MS, over.signal).then(decide, decide);
        });
      }
    });
    this.#round = all.then(() => {
      over.abort();
      this.#round = undefined;
      this.#decided = undefined;
      this.#roundEndedMs = this.#options.clock.monotonicMs();
      if (!this.#closing.signal.aborted) this.#tell(before);
    });
  }

  /** Whether it works. */
  async #ask(carrier: Carrier): Promise<boolean> {
    const { node, side, ca, clock, proxies, probe = probeCarrier } = this.#options;
    const { choice } = carrier;
    const { signal } = this.#closing;
    const result: ProbeResult = await probe({
      ...{ host: node.host, choice, side, ca, told: this.#told, clock, signal, proxies },
    });
    if (signal.aborted) return false;
    const wasIntercepted = carrier.interceptedBy;
    carrier.interceptedBy = result.interceptedBy;
    this.#set(carrier, result.failure);
    const { interceptedBy: issuer } = result;
    if (issuer !== undefined && issuer !== wasIntercepted)
      this.#logger.warn({ ...choice, issuer }, `${textOf(choice)} is intercepted by ${issuer}`);
    return result.failure === undefined;
  }

  #best(): Carrier | undefined {
    return this.#carriers.find(({ state }) => state === 'works');
  }

  #tell(before: Carrier | undefined): void {
    const best = this.#best();
    const failed = this.#carriers.flatMap(({ choice, failure }) =>
      failure === undefined ? [] : [`${textOf(choice)}: ${failure}`],
    );
    if (best === undefined) {
      this.#logger.warn({ failed }, 'no carrier for data links reaches the node');
    } else if (best !== before) {
      this.#logger.info({ ...best.choice, failed }, `data links go by ${textOf(best.choice)}`);
    }
  }
}
