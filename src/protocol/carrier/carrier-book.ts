import type { RelayNodeConfig } from '../link/offer.ts';
import { CarrierMemory } from './carrier-memory.ts';
import { type CarrierStatus, NodeCarriers, type NodeCarriersOptions } from './node-carriers.ts';

export interface CarrierBookOptions extends Omit<NodeCarriersOptions, 'node' | 'memory'> {
  readonly nodes: readonly RelayNodeConfig[];
  /** What worked last is kept there; undefined: it is not kept. */
  readonly stateDir: string | undefined;
}

/** The ways of one process to each of its relay nodes. */
export class CarrierBook {
  readonly #nodes = new Map<string, NodeCarriers>();

  constructor({ nodes, stateDir, ...options }: CarrierBookOptions) {
    const memory = new CarrierMemory(stateDir, options.logger);
    for (const node of nodes) this.#nodes.set(node.host, new NodeCarriers({ ...options, node, memory }));
  }

  /** Undefined for a node that is not configured. */
  of(host: string): NodeCarriers | undefined {
    return this.#nodes.get(host);
  }

  status(): CarrierStatus[] {
    return [...this.#nodes.values()].map((node) => node.status());
  }

  async close(): Promise<void> {
    await Promise.all([...this.#nodes.values()].map((node) => node.close()));
  }
}
