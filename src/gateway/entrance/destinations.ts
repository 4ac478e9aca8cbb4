import { formatHostPort } from '../../runtime/index.ts';
import type { LinkPool } from '../link-pool.ts';
import { canonicalHost, parseTarget } from './host-name.ts';

/** A connection that an entrance leads to. */
export interface Destination {
  readonly pool: LinkPool;
  /** `HOST:PORT` that applications ask for, as gateway.yaml has it. */
  readonly target: string | undefined;
}

/**
 * What applications may ask an entrance for: a target as gateway.yaml has it, or the name of a connection. A name goes
 * with the port of its target, or with any port when gateway.yaml does not say the target.
 */
export class Destinations {
  readonly #byTarget = new Map<string, LinkPool>();
  readonly #byName = new Map<string, { readonly pool: LinkPool; readonly port: number | undefined }>();

  constructor(destinations: readonly Destination[]) {
    for (const { pool, target: text } of destinations) {
      const target = text === undefined ? undefined : parseTarget(text);
      if (target !== undefined) this.#byTarget.set(formatHostPort(target), pool);
      this.#byName.set(pool.connection, { pool, port: target?.port });
    }
  }

  /** Names of the connections. */
  get connections(): readonly string[] {
    return [...this.#byName.keys()];
  }

  /**
   * @param host as the application wrote it, without brackets
   * @returns undefined when nothing of that name is listed
   */
  find(host: string, port: number): LinkPool | undefined {
    const canonical = canonicalHost(host);
    if (canonical === undefined) return undefined;
    const ofTarget = this.#byTarget.get(formatHostPort({ host: canonical, port }));
    if (ofTarget !== undefined) return ofTarget;
    const named = this.#byName.get(canonical);
    return named !== undefined && (named.port === undefined || named.port === port) ? named.pool : undefined;
  }
}
