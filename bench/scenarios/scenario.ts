import type { Generator } from '../load/generator.ts';
import type { Tunnel } from '../tunnels/tunnel.ts';

/** Numbers of one run over one tunnel, by metric name; the unit is in the name. */
export type Measurement = Readonly<Record<string, number>>;

/** One thing measured over every tunnel, each time with fresh processes. */
export interface Scenario {
  readonly name: string;
  /** What exactly is done, for the table's heading. */
  readonly description: string;
  /** The metric that ratios are taken of, and which way is better. */
  readonly headline: { readonly metric: string; readonly better: 'higher' | 'lower' };
  measure(tunnel: Tunnel, generator: Generator): Promise<Measurement>;
}

/** Something that only the product does. */
export interface ProductScenario {
  readonly name: string;
  readonly description: string;
  readonly headline: Scenario['headline'];
  measureProduct(): Promise<Measurement>;
}
