import { denialText } from './denial-text.ts';
import type { AuditLog, Subject } from '../audit/index.ts';
import type { Decision, PolicyInputBase } from '../policy/index.ts';
import type { AttachedCredential, ConnectionInfo } from '../protocol/index.ts';
import {
  type Clock,
  type CloseReason,
  formatHostPort,
  type Logger,
  messageOf,
  type TimerWheel,
} from '../runtime/index.ts';
import type { Decided } from './decided.ts';
import { decisionData } from './events.ts';
import type { PolicyPort } from './policy-port.ts';
import { listenerKey, type Publication, publicationStatus, type PublicationStatus } from './publication.ts';
import type { Resolver } from './resolver.ts';

/** After a failure that may pass (no address, audit or relay away) publishing is tried again. */
export const PUBLISH_RETRY_MS = 5_000;
/** A bundle that changes this often within one decision is somebody's mistake. */
const MAX_DECISIONS = 5;
const SECOND_MS = 1_000;

/** The part of a login that publishing needs. */
export interface PublishPort {
  publish(connection: string, handle: string, spki: string): Promise<void>;
  unpublish(connection: string): void;
}

export interface PublisherDeps {
  readonly namespace: string;
  readonly agent: PolicyInputBase['agent'];
  readonly spki: string;
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly logger: Logger;
  readonly audit: Pick<AuditLog, 'record' | 'note'>;
  readonly policy: PolicyPort;
  readonly resolver: Resolver;
  readonly now: () => Pick<PolicyInputBase, 'time' | 'managed'>;
  readonly usage: (connection: string) => PolicyInputBase['usage'];
  /** The target that agent.yaml pins for a connection. */
  readonly pinned: (connection: string) => { readonly host: string; readonly port: number } | undefined;
  /** Why nothing may be published on a credential: its key, its connection or this agent is revoked. */
  readonly revoked: (
    credential: Pick<AttachedCredential, 'key_id' | 'connection_id'>,
  ) => CloseReason | undefined;
  readonly port: (node: string) => PublishPort | undefined;
  /** Gateways can find the connection on this credential at this node from now on. */
  readonly onOffered: (node: string, handle: string) => void;
  /** Told of each decision to publish; whoever listens takes note and returns. */
  readonly onDecided: (decided: Decided) => void;
}

const keyOf = (node: string, handle: string): string => `${node}\n${handle}`;

/**
 * Publishes connections that policy allows, per relay node and listener credential, and takes back what it no
 * longer allows. The publication's target is what streams are opened to.
 */
export class Publisher {
  readonly #deps: PublisherDeps;
  readonly #publications = new Map<string, Publication>();
  /** Connections as each node described them, by node and name. */
  readonly #connections = new Map<string, ConnectionInfo>();
  /** Credentials that another one of their connection takes over from, by handle. */
  readonly #successors = new Map<string, string>();
  #isClosed = false;

  constructor(deps: PublisherDeps) {
    this.#deps = deps;
  }

  /** A credential stands at a node (again): its connection is decided and published anew. */
  onAttached(node: string, credential: AttachedCredential): void {
    const key = keyOf(node, credential.handle);
    const known = this.#publications.get(key);
    const connection = this.#connections.get(keyOf(node, credential.connection));
    const publication: Publication = known ?? {
      node,
      handle: credential.handle,
      credential,
      connection,
      state: 'deciding',
      isOffered: false,
      detail: undefined,
      decision: undefined,
      decisionId: undefined,
      publishedMs: 0,
      evidence: '',
      isRunning: false,
      isAgain: false,
      next: undefined,
    };
    publication.credential = credential;
    publication.isOffered = false;
    publication.connection = connection;
    this.#publications.set(key, publication);
    this.#evaluate(publication);
  }

  /** A node describes a connection, for the first time or changed. */
  onConnection(node: string, connection: ConnectionInfo): void {
    this.#connections.set(keyOf(node, connection.name), connection);
    for (const publication of this.#of(node, connection.name)) {
      publication.connection = connection;
      this.#evaluate(publication);
    }
  }

  /** A node says that a connection is no more. */
  onConnectionGone(node: string, name: string): void {
    this.#connections.delete(keyOf(node, name));
    for (const publication of this.#of(node, name)) {
      publication.connection = undefined;
      this.#withdraw(publication, 'gone', 'connection_removed', 'the connection was deleted');
    }
  }

  /** The node would not have the credential (any more). */
  onCredentialRefused(node: string, handle: string, detail: string): void {
    const publication = this.#publications.get(keyOf(node, handle));
    if (publication === undefined) return;
    this.#withdraw(publication, 'failed', 'not_authorized', detail);
    for (const [old, next] of this.#successors) {
      const before = this.#publications.get(keyOf(node, old));
      if (next === handle && before !== undefined) this.#evaluate(before);
    }
  }

  /** From where `next` is published, `old` is not offered any more; links on it go on. */
  replace(old: string, next: string): void {
    this.#successors.delete(next);
    this.#successors.set(old, next);
    this.evaluateAll();
  }

  /** The credential is let go. */
  forget(handle: string): void {
    for (const [key, publication] of this.#publications) {
      if (publication.handle !== handle) continue;
      this.#withdraw(publication, 'gone', 'unpublished', 'the credential was let go');
      publication.next?.cancel();
      this.#publications.delete(key);
    }
    this.#successors.delete(handle);
    for (const [old, next] of this.#successors) if (next === handle) this.#successors.delete(old);
  }

  /** Whether gateways can find the connection on this credential at that node. */
  isOffered(node: string, handle: string): boolean {
    return this.#publications.get(keyOf(node, handle))?.isOffered ?? false;
  }

  /** The key of a credential, as a node said; undefined when none took it. */
  keyIdOf(handle: string): string | undefined {
    return [...this.#publications.values()].find((one) => one.handle === handle)?.credential.key_id;
  }

  /** The control link to a node is lost or the node stops, and what was offered there with it; links and decisions stay. */
  onDown(node: string): void {
    for (const publication of this.#publications.values()) {
      if (publication.node === node) publication.isOffered = false;
    }
  }

  /** Connections that gateways can find at some relay node now. */
  offered(): ReadonlySet<string> {
    const nodes = new Set([...this.#publications.values()].map(({ node }) => node));
    return new Set([...nodes].flatMap((node) => this.offeredAt(node)));
  }

  /** The connections that one node offers for this agent now. */
  offeredAt(node: string): string[] {
    const offered = [...this.#publications.values()].filter((one) => one.node === node && one.isOffered);
    return [...new Set(offered.map(({ credential }) => credential.connection))];
  }

  /** Everything is decided again: another bundle, other data, other settings. */
  evaluateAll(): void {
    for (const publication of this.#publications.values()) this.#evaluate(publication);
  }

  /** Where streams under this listener key may go; undefined when the connection is not published so. */
  target(
    node: string,
    connection: string,
    connectionId: string,
    keyId: string,
  ): ConnectionInfo['target'] | undefined {
    for (const publication of this.#publications.values()) {
      if (publication.node !== node || publication.credential.key_id !== keyId) continue;
      const info = publication.connection;
      if (publication.state !== 'published' || info === undefined) continue;
      if (info.name === connection && info.id === connectionId) return info.target;
    }
    return undefined;
  }

  labels(node: string, connection: string): Readonly<Record<string, string>> {
    return this.#connections.get(keyOf(node, connection))?.labels ?? {};
  }

  /** What policy allows now, offered or not. */
  published(): Publication[] {
    return [...this.#publications.values()].filter(({ state }) => state === 'published');
  }

  status(): PublicationStatus[] {
    return [...this.#publications.values()].map(publicationStatus);
  }

  close(): void {
    this.#isClosed = true;
    for (const publication of this.#publications.values()) publication.next?.cancel();
  }

  #of(node: string, connection: string): Publication[] {
    return [...this.#publications.values()].filter(
      (publication) => publication.node === node && publication.credential.connection === connection,
    );
  }

  /** One evaluation per publication at a time; what changes meanwhile causes another one. */
  #evaluate(publication: Publication): void {
    if (this.#isClosed || publication.connection === undefined) return;
    if (this.#publications.get(keyOf(publication.node, publication.handle)) !== publication) return;
    if (publication.isRunning) {
      publication.isAgain = true;
      return;
    }
    publication.isRunning = true;
    publication.isAgain = false;
    publication.next?.cancel();
    this.#run(publication)
      .catch((error: unknown) => {
        this.#withdraw(publication, 'failed', 'internal', messageOf(error));
        this.#again(publication, PUBLISH_RETRY_MS);
      })
      .finally(() => {
        publication.isRunning = false;
        if (publication.isAgain) this.#evaluate(publication);
      });
  }

  async #run(publication: Publication): Promise<void> {
    const { resolver, audit } = this.#deps;
    const connection = publication.connection;
    if (connection === undefined) return;
    const { target } = connection;
    const pin = this.#deps.pinned(connection.name);
    if (pin !== undefined && (pin.host !== target.host || pin.port !== target.port)) {
      const detail = `agent.yaml pins ${formatHostPort(pin)}, the relay says ${formatHostPort(target)}`;
      this.#withdraw(publication, 'denied', 'guard_denied', detail);
      return;
    }
    const resolution = await resolver.resolve(target.host);
    if (!resolution.ok) {
      // What is published already stays so: its streams find out for themselves.
      if (publication.state !== 'published') {
        this.#withdraw(publication, 'failed', 'dns_failure', `${target.host}: ${resolution.detail}`);
      }
      this.#again(publication, PUBLISH_RETRY_MS);
      return;
    }
    const { base, decision } = await this.#decide(publication, connection, resolution.addresses);
    const subject = this.#subject(publication, connection);
    const evidence = JSON.stringify([
      decision.allow,
      decision.reason,
      decision.rules,
      decision.bundle?.sha256,
      decision.allowed_addresses,
      target,
    ]);
    if (evidence !== publication.evidence) {
      const event = {
        type: 'publish.decision' as const,
        subject,
        data: decisionData(decision, {
          resolveAgeMs: resolution.ageMs,
          ...(publication.state === 'published' ? { recheck: true } : {}),
        }),
      };
      publication.decisionId = (await audit.record(event)).event_id;
      publication.evidence = evidence;
    }
    publication.decision = decision;
    this.#deps.onDecided({ base, decision, decisionId: publication.decisionId, subject });
    const revoked = this.#deps.revoked(publication.credential);
    if (revoked !== undefined) {
      this.#withdraw(
        publication,
        'denied',
        revoked,
        'the listener key, the connection or this agent is revoked',
      );
      return;
    }
    // What was decided is about this connection and this bundle; anything newer is already queued.
    if (publication.connection !== connection) return;
    if (this.#publications.get(keyOf(publication.node, publication.handle)) !== publication) return;
    if (decision.generation !== this.#deps.policy.generation) {
      publication.isAgain = true;
      return;
    }
    this.#again(publication, decision.obligations.recheck_seconds * SECOND_MS, decision.recheck_at);
    if (!decision.allow) {
      const reason = decision.reason ?? 'policy_denied';
      this.#withdraw(publication, 'denied', reason, denialText(decision.reasons));
      return;
    }
    await this.#publish(publication, connection.name);
  }

  async #publish(publication: Publication, connection: string): Promise<void> {
    const { clock, logger, port, spki } = this.#deps;
    const login = port(publication.node);
    const wasPublished = publication.state === 'published';
    publication.state = 'published';
    publication.detail = undefined;
    if (publication.isOffered || this.#isReplaced(publication)) return;
    try {
      if (login === undefined) throw new Error('not logged in');
      await login.publish(connection, publication.handle, spki);
      this.#offered(publication);
    } catch (error) {
      // Allowed all the same: links of before go on. The next login publishes again; a refusal is retried.
      publication.detail = `not offered at the relay: ${messageOf(error)}`;
      this.#again(publication, PUBLISH_RETRY_MS);
      return;
    }
    if (wasPublished) return;
    publication.publishedMs = clock.monotonicMs();
    logger.info(
      { connection, node: publication.node, rule: publication.decision?.rule },
      'connection published',
    );
  }

  /** A node has one publication of a connection: the last. */
  #offered(publication: Publication): void {
    publication.isOffered = true;
    const { node, handle, credential } = publication;
    for (const other of this.#of(node, credential.connection)) {
      if (other !== publication && this.#successors.get(other.handle) === handle) other.isOffered = false;
    }
    this.#deps.onOffered(node, handle);
  }

  #isReplaced({ node, handle }: Publication): boolean {
    const next = this.#successors.get(handle);
    if (next === undefined) return false;
    return this.#publications.get(keyOf(node, next))?.state === 'published';
  }

  async #decide(
    publication: Publication,
    connection: ConnectionInfo,
    addresses: readonly string[],
  ): Promise<{ readonly base: PolicyInputBase; readonly decision: Decision }> {
    const { policy, namespace, agent, now, usage } = this.#deps;
    const { time, managed } = now();
    const base: PolicyInputBase = {
      v: 1,
      action: 'publish',
      namespace,
      connection: { name: connection.name, id: connection.id, labels: connection.labels },
      target: { host: connection.target.host, port: connection.target.port, addresses },
      listener: listenerKey(publication.credential),
      agent,
      relay: { node: publication.node },
      usage: usage(connection.name),
      managed,
      time,
    };
    let decision = await policy.decide(base, 'recheck');
    for (let asked = 1; asked < MAX_DECISIONS; asked += 1) {
      const isEngineError = decision.decided_by === 'engine' && decision.reason !== 'no_bundle';
      if (decision.generation === policy.generation && !isEngineError) break;
      decision = await policy.decide(base, 'recheck');
    }
    return { base, decision };
  }

  #again(publication: Publication, delayMs: number, at: string | null = null): void {
    if (this.#isClosed) return;
    const untilMs = at === null ? Number.NaN : Date.parse(at) - this.#deps.clock.nowMs();
    const dueMs = Number.isNaN(untilMs) ? delayMs : Math.min(delayMs, Math.max(0, untilMs));
    publication.next?.cancel();
    publication.next = this.#deps.wheel.after(dueMs, () => this.#evaluate(publication));
  }

  #withdraw(
    publication: Publication,
    state: 'denied' | 'failed' | 'gone',
    reason: CloseReason,
    detail: string,
  ): void {
    const { port, audit, logger, clock } = this.#deps;
    const connection = publication.credential.connection;
    const wasPublished = publication.state === 'published';
    const isNews = publication.state !== state || publication.detail !== `${reason}: ${detail}`;
    publication.state = state;
    publication.isOffered = false;
    publication.detail = `${reason}: ${detail}`;
    if (wasPublished) {
      // What the node has is the successor's then.
      if (!this.#isReplaced(publication)) port(publication.node)?.unpublish(connection);
      audit.note({
        type: 'unpublish',
        subject: this.#subject(publication, publication.connection),
        data: {
          reason,
          duration_ms: Math.round(clock.monotonicMs() - publication.publishedMs),
          ...(publication.decisionId === undefined ? {} : { decision_id: publication.decisionId }),
        },
      });
    }
    if (isNews) {
      logger.warn({ connection, node: publication.node, reason, detail }, 'connection is not published');
    }
  }

  #subject(publication: Publication, connection: ConnectionInfo | undefined): Subject {
    const { credential } = publication;
    return {
      namespace: this.#deps.namespace,
      agent: this.#deps.agent.name,
      relay: publication.node,
      connection: credential.connection,
      connection_id: credential.connection_id,
      listener_principal: credential.principal,
      listener_key_id: credential.key_id,
      ...(connection === undefined
        ? {}
        : { target_host: connection.target.host, target_port: connection.target.port }),
    };
  }
}
