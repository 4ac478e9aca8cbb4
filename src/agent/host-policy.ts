import {
  decide,
  type Decision,
  type GuardSettings,
  type Lane,
  type PolicyHost,
  type PolicyInputBase,
} from '../policy/index.ts';
import type { PolicyPort } from './policy-port.ts';

/** The bundle host as the agent asks it: with the guard of the moment, and counted. */
export class HostPolicy implements PolicyPort {
  readonly #host: PolicyHost;
  readonly #guard: () => GuardSettings;
  #pending = 0;

  constructor(host: PolicyHost, guard: () => GuardSettings) {
    this.#host = host;
    this.#guard = guard;
  }

  get generation(): number {
    return this.#host.generation;
  }

  /** Decisions asked for and not yet answered. */
  get pendingCount(): number {
    return this.#pending;
  }

  async decide(base: PolicyInputBase, lane: Lane): Promise<Decision> {
    this.#pending += 1;
    try {
      return await decide(this.#host, base, this.#guard(), lane);
    } finally {
      this.#pending -= 1;
    }
  }
}
