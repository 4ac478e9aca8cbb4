/** How many streams each may hold; undefined means no limit of its own. */
export interface SlotLimits {
  readonly agent: number;
  readonly principal: number | undefined;
  readonly connection: number | undefined;
}

/** What a stream's decision sees of the streams before it (policy.md: `usage`). */
export interface Usage {
  readonly principal: { readonly streams: number };
  readonly connection: { readonly streams: number };
  readonly agent: { readonly streams: number };
}

/** A place taken by one stream, from before its decision to its end. */
export interface Slot {
  /** Older streams only: the slot itself is not counted. */
  readonly usage: Usage;
  /** Gives the place back; later calls do nothing. */
  release(): void;
}

export type SlotRefusal = 'agent' | 'principal' | 'connection';

/** Counts streams by agent, principal and connection; reserving and counting are one synchronous step. */
export class SlotTable {
  #limits: SlotLimits;
  #agent = 0;
  readonly #principals = new Map<string, number>();
  readonly #connections = new Map<string, number>();

  constructor(limits: SlotLimits) {
    this.#limits = limits;
  }

  /** New limits bind streams to come; nothing is cut. */
  setLimits(limits: SlotLimits): void {
    this.#limits = limits;
  }

  get inUse(): number {
    return this.#agent;
  }

  ofConnection(connection: string): number {
    return this.#connections.get(connection) ?? 0;
  }

  /** Takes a place, or says which limit is reached. */
  reserve(principal: string, connection: string): Slot | SlotRefusal {
    const ofPrincipal = this.#principals.get(principal) ?? 0;
    const ofConnection = this.#connections.get(connection) ?? 0;
    if (this.#agent >= this.#limits.agent) return 'agent';
    if (this.#limits.principal !== undefined && ofPrincipal >= this.#limits.principal) return 'principal';
    if (this.#limits.connection !== undefined && ofConnection >= this.#limits.connection) return 'connection';
    const usage: Usage = {
      principal: { streams: ofPrincipal },
      connection: { streams: ofConnection },
      agent: { streams: this.#agent },
    };
    this.#agent += 1;
    this.#principals.set(principal, ofPrincipal + 1);
    this.#connections.set(connection, ofConnection + 1);
    let held = true;
    return {
      usage,
      release: () => {
        if (!held) return;
        held = false;
        this.#agent -= 1;
        lower(this.#principals, principal);
        lower(this.#connections, connection);
      },
    };
  }
}

const lower = (counts: Map<string, number>, name: string): void => {
  const left = (counts.get(name) ?? 0) - 1;
  if (left > 0) counts.set(name, left);
  else counts.delete(name);
};
