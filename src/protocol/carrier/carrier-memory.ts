import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { foreignCodeOf, type Logger, messageOf, writeFileAtomically } from '../../runtime/index.ts';
import { CARRIER_KINDS, type CarrierChoice } from './choice.ts';

/** In the state directory. */
const FILE_NAME = 'carriers.json';

const rememberedSchema = z.object({
  control_port: z.int().optional(),
  data: z.object({ kind: z.enum(CARRIER_KINDS), port: z.int() }).optional(),
});
const fileSchema = z.object({ nodes: z.record(z.string(), rememberedSchema) });

/** What worked last at one node. */
export interface Remembered {
  readonly control_port?: number | undefined;
  readonly data?: CarrierChoice | undefined;
}

/** What worked last at each node, kept over restarts. It is a hint: without it everything is tried in order. */
export class CarrierMemory {
  readonly #path: string | undefined;
  readonly #logger: Logger;
  readonly #nodes = new Map<string, Remembered>();

  /** @param stateDir undefined: nothing is kept */
  constructor(stateDir: string | undefined, logger: Logger) {
    this.#path = stateDir === undefined ? undefined : join(stateDir, FILE_NAME);
    this.#logger = logger;
    if (this.#path === undefined) return;
    try {
      const { nodes } = fileSchema.parse(JSON.parse(readFileSync(this.#path, 'utf8')));
      for (const [host, remembered] of Object.entries(nodes)) this.#nodes.set(host, remembered);
    } catch (thrown) {
      if (foreignCodeOf(thrown) === 'ENOENT') return;
      logger.warn({ path: this.#path, detail: messageOf(thrown) }, 'what worked last is not known');
    }
  }

  of(host: string): Remembered {
    return this.#nodes.get(host) ?? {};
  }

  /** Keeps what worked at a node; nothing is written when it is known. */
  keep(host: string, worked: Remembered): void {
    const before = this.of(host);
    const now = { ...before, ...worked };
    if (JSON.stringify(before) === JSON.stringify(now)) return;
    this.#nodes.set(host, now);
    if (this.#path === undefined) return;
    try {
      writeFileAtomically(this.#path, `${JSON.stringify({ nodes: Object.fromEntries(this.#nodes) })}\n`);
    } catch (thrown) {
      this.#logger.warn({ path: this.#path, detail: messageOf(thrown) }, 'what worked last is not kept');
    }
  }
}
