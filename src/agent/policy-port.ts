import type { Decision, PolicyInputBase } from '../policy/index.ts';

/** What the agent needs of policy: an answer, and whether an answer is still the current one. */
export interface PolicyPort {
  /** Rises with every activation of a bundle and every reload of its data. */
  readonly generation: number;
  /** A denial is a value; a rejection counts as an error of the engine, never as an allow. */
  decide(base: PolicyInputBase, lane: 'open' | 'recheck'): Promise<Decision>;
}
