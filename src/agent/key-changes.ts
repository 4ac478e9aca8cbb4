import type { CredentialSource } from '../protocol/index.ts';
import type { Clock, Logger } from '../runtime/index.ts';
import type { AgentLink } from './agent-link.ts';
import type { Publisher } from './publisher.ts';

/** Links of a key that was replaced serve out their streams, at most this long: the life of a link (protocol.md). */
const SERVE_OUT_MS = 24 * 60 * 60 * 1_000;
/** An offer on the old key may be under way this long after the new one is offered: the life of an offer, and some. */
export const LET_GO_AFTER_MS = 20_000;

/** The part of a login that a change of key needs. */
export interface KeyPort {
  readonly node: string;
  readonly isUp: boolean;
  attach(source: CredentialSource): void;
  detach(handle: string): void;
}

export interface KeyChangesDeps {
  readonly sources: readonly CredentialSource[];
  readonly publisher: Pick<Publisher, 'replace' | 'forget' | 'isOffered' | 'keyIdOf'>;
  readonly ports: () => readonly KeyPort[];
  readonly links: () => readonly Pick<AgentLink, 'node' | 'offer' | 'goAway'>[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * The credentials of an agent while their keys change. The new one is attached beside the old one; where it is
 * published new links stand on it and the old key's get GOAWAY. The old one is let go, everywhere, when the last of its
 * links is gone and the new one is offered at every node that can be reached.
 */
export class KeyChanges {
  readonly #deps: KeyChangesDeps;
  readonly #sources: Map<string, CredentialSource>;
  /** Old handle by that of the new key that takes over from it. */
  readonly #replaced = new Map<string, string>();
  readonly #offeredMs = new Map<string, number>();

  constructor(deps: KeyChangesDeps) {
    this.#deps = deps;
    this.#sources = new Map(deps.sources.map((source) => [source.handle, source]));
  }

  get sources(): readonly CredentialSource[] {
    return [...this.#sources.values()];
  }

  /** `next` takes over from the credential of the handle; going back to one that still serves is a change too. */
  change(handle: string, next: CredentialSource): void {
    const { publisher, ports } = this.#deps;
    const before = this.#replaced.get(handle);
    // A key that came to nothing has nobody to take over from.
    const isVoid = before !== undefined && !this.#offeredMs.has(handle);
    const old = isVoid ? before : handle;
    if (isVoid) this.#letGo(handle);
    if (old === next.handle) return;
    if (this.#replaced.get(old) === next.handle) this.#replaced.delete(old);
    this.#offeredMs.delete(next.handle);
    this.#replaced.set(next.handle, old);
    const isHeld = this.#sources.has(next.handle);
    this.#sources.set(next.handle, next);
    publisher.replace(old, next.handle);
    if (!isHeld) for (const port of ports()) port.attach(next);
  }

  /** A node offers the connection on this credential. */
  onOffered(node: string, handle: string): void {
    if (!this.#replaced.has(handle)) return;
    const { clock, logger } = this.#deps;
    if (!this.#offeredMs.has(handle)) this.#offeredMs.set(handle, clock.monotonicMs());
    const source = this.#sources.get(handle);
    logger.info({ node, connection: source?.connection }, 'new links use the new key');
    this.retire();
    clock.after(LET_GO_AFTER_MS, () => this.letGo()).unref();
  }

  /** A credential is refused; the one before goes on. */
  onRefused(node: string, handle: string, detail: string): void {
    if (this.#replaced.has(handle))
      this.#deps.logger.error({ node }, `the new key is refused, the old one goes on: ${detail}`);
  }

  /** Links on an old key take no new streams where the new one is offered. */
  retire(): void {
    const { publisher, links } = this.#deps;
    for (const [next, old] of this.#replaced) {
      for (const link of links()) {
        if (this.#isOn(link, old, next) && publisher.isOffered(link.node, next))
          link.goAway('link_lost', SERVE_OUT_MS);
      }
    }
  }

  /** Lets go of old credentials that nothing stands on any more. */
  letGo(): void {
    const { publisher, ports, links, clock } = this.#deps;
    const up = ports().filter(({ isUp }) => isUp);
    for (const [next, old] of [...this.#replaced]) {
      const offeredMs = this.#offeredMs.get(next);
      if (offeredMs === undefined || clock.monotonicMs() - offeredMs < LET_GO_AFTER_MS) continue;
      if (!up.every(({ node }) => publisher.isOffered(node, next))) continue;
      if (links().some((link) => this.#isOn(link, old, next))) continue;
      this.#replaced.delete(next);
      this.#letGo(old);
    }
  }

  #isOn({ offer }: Pick<AgentLink, 'offer'>, old: string, next: string): boolean {
    const { publisher } = this.#deps;
    const keyId = publisher.keyIdOf(old);
    if (keyId === undefined || keyId === publisher.keyIdOf(next)) return false;
    return offer.connection === this.#sources.get(old)?.connection && offer.listener.id === keyId;
  }

  #letGo(handle: string): void {
    const source = this.#sources.get(handle);
    this.#sources.delete(handle);
    this.#replaced.delete(handle);
    this.#offeredMs.delete(handle);
    this.#deps.publisher.forget(handle);
    for (const port of this.#deps.ports()) port.detach(handle);
    this.#deps.logger.info({ connection: source?.connection, key_name: source?.keyName }, 'a key was let go');
  }
}
