import type { AttachedCredential, ConnectionInfo } from '../protocol/index.ts';
import { formatHostPort } from '../runtime/index.ts';
import type { LinkFailure } from './link-search.ts';
import { hostName } from './names/host-name.ts';

/** What relay nodes said of one pinned connection. */
interface Pin {
  /** `HOST:PORT` of gateway.yaml. */
  readonly target: string;
  /** By node: what it says the target is. */
  readonly told: Map<string, string>;
  /** By node: credentials that it has accepted, by handle. */
  readonly attached: Map<string, Map<string, AttachedCredential>>;
}

/**
 * Connections whose target gateway.yaml names: a credential at a node is used only once that node has said the same
 * target, and while it does.
 */
export class PinnedTargets {
  readonly #pins: ReadonlyMap<string, Pin>;

  /** @param targets `HOST:PORT` by connection, in the form of `targetText` */
  constructor(targets: ReadonlyMap<string, string>) {
    this.#pins = new Map(
      [...targets].map(([connection, target]) => [
        connection,
        {
          target,
          told: new Map<string, string>(),
          attached: new Map<string, Map<string, AttachedCredential>>(),
        },
      ]),
    );
  }

  /** Takes note of a credential. @returns whether it may be used now, or why not; undefined while the node has not said its target */
  attach(node: string, credential: AttachedCredential): true | LinkFailure | undefined {
    const pin = this.#pins.get(credential.connection);
    if (pin === undefined) return true;
    const held = pin.attached.get(node) ?? new Map<string, AttachedCredential>();
    pin.attached.set(node, held.set(credential.handle, credential));
    return this.#verdict(pin, node);
  }

  /** Takes note of what a node says. @returns the credentials there that it concerns, and whether they may be used */
  tell(
    node: string,
    { name, target }: ConnectionInfo,
  ):
    | { readonly verdict: true | LinkFailure; readonly credentials: readonly AttachedCredential[] }
    | undefined {
    const pin = this.#pins.get(name);
    if (pin === undefined) return undefined;
    pin.told.set(node, formatHostPort({ host: hostName(target.host), port: target.port }));
    const verdict = this.#verdict(pin, node);
    return verdict === undefined
      ? undefined
      : { verdict, credentials: [...(pin.attached.get(node)?.values() ?? [])] };
  }

  /** The node dropped a credential. */
  detach(node: string, handle: string): void {
    for (const { attached } of this.#pins.values()) attached.get(node)?.delete(handle);
  }

  /** The login at a node is gone; the next one is told everything again. */
  forget(node: string): void {
    for (const { told, attached } of this.#pins.values()) {
      told.delete(node);
      attached.delete(node);
    }
  }

  #verdict({ target, told }: Pin, node: string): true | LinkFailure | undefined {
    const said = told.get(node);
    if (said === undefined) return undefined;
    if (said === target) return true;
    return {
      code: 'connection_unknown',
      detail: `gateway.yaml has the target ${target}, the relay says ${said}`,
    };
  }
}
