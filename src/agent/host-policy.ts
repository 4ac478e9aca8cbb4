import {
  type Bounds,
  type Decision,
  decideWithin,
  type GuardSettings,
  type Lane,
  managedDenial,
  type ManagedHost,
  type PolicyHost,
  type PolicyInputBase,
  type PolicyInUse,
} from '../policy/index.ts';
import type { LiveStream } from './live-streams.ts';
import type { PolicyPort } from './policy-port.ts';

export interface HostPolicyDeps {
  readonly host: PolicyHost;
  readonly guard: () => GuardSettings;
  readonly managed: Pick<ManagedHost, 'settings' | 'generation'>;
  /** Where bundles come from, and whose signatures count. */
  readonly policyInUse: PolicyInUse;
}

/** The bundle host as the agent asks it: with guard and managed settings of the moment, and counted. */
export class HostPolicy implements PolicyPort {
  readonly #deps: HostPolicyDeps;
  #pending = 0;

  constructor(deps: HostPolicyDeps) {
    this.#deps = deps;
  }

  /** Neither part ever falls, so the sum changes with either. */
  get generation(): number {
    return this.#deps.host.generation + this.#deps.managed.generation;
  }

  /** Decisions asked for and not yet answered. */
  get pendingCount(): number {
    return this.#pending;
  }

  async decide(base: PolicyInputBase, lane: Lane): Promise<Decision> {
    // Everything is taken in this tick, so that the generation tells whether the answer still counts.
    const { generation } = this;
    this.#pending += 1;
    try {
      const bounds = { ...this.bounds(), policyInUse: this.inUse(lane) };
      const decision = await decideWithin(this.#deps.host, this.#governed(base), bounds, lane);
      return { ...decision, generation };
    } finally {
      this.#pending -= 1;
    }
  }

  /** The denial of a live stream by the managed settings that hold now; undefined when they allow it. */
  managedDenial({ base, addresses }: Pick<LiveStream, 'base' | 'addresses'>): Decision | undefined {
    return managedDenial(this.#deps.host, this.#governed(base), this.bounds(), addresses);
  }

  /**
   * What managed settings judge. Until a bundle of the required source takes over, new streams are judged by what
   * decides, which is none of that source; live streams and publications wait for it, as for any activation.
   */
  inUse(lane: Lane): PolicyInUse {
    const { host, policyInUse } = this.#deps;
    return lane === 'open' && host.isMoving ? { source: undefined, keys: [] } : policyInUse;
  }

  /** The input says which settings it was decided under, also where it was made under others. */
  #governed(base: PolicyInputBase): PolicyInputBase {
    return { ...base, managed: this.#deps.managed.settings.input };
  }

  /** What every decision of this moment keeps within. */
  bounds(): Bounds {
    const { guard, managed, policyInUse } = this.#deps;
    return { guard: guard(), managed: managed.settings, policyInUse };
  }
}
