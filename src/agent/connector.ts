import { setMaxListeners } from 'node:events';
import type { AuditLog } from '../audit/index.ts';
import {
  endsLink,
  type LinkStanding,
  standingIdsOf,
  subjectIdOf,
  subjectOfNotice,
} from '../identity/index.ts';
import type { PolicyInputBase } from '../policy/index.ts';
import {
  type AuthenticatedPeer,
  type CarrierBook,
  type ConnectionInfo,
  type CredentialSource,
  type DataLinkOptions,
  LinkError,
  type LinkOffer,
  type LoginHandlers,
  type LoginState,
  type NodeLogin,
  type NodeLoginOptions,
  type OwnParty,
  RecentIds,
  type RelayNodeConfig,
  type RevokedNotice,
  type ServerRevocation,
} from '../protocol/index.ts';
import {
  type Clock,
  type CloseReason,
  isCloseReason,
  type LinkCertificate,
  type Logger,
  messageOf,
  type TimerWheel,
} from '../runtime/index.ts';
import { AgentLink, type AgentLinkDeps } from './agent-link.ts';
import { KeyChanges, type KeyPort } from './key-changes.ts';
import { LatelyEnded } from './lately-ended.ts';
import type { LiveStreams } from './live-streams.ts';
import type { AgentMetrics } from './metrics.ts';
import type { Publisher } from './publisher.ts';
import { type RefusedKey, RefusedKeys } from './refused-keys.ts';
import type { RevocationSet } from './revocations.ts';
import { streamInfos } from './stream-info.ts';

/** Handshakes of data links in flight; more are refused as `overloaded` (protocol.md, Rendezvous). */
export const MAX_HANDSHAKES = 16;

/** Makes a login; the real one is `new NodeLogin(options)`. */
export type MakeLogin = (
  options: NodeLoginOptions,
) => Pick<
  NodeLogin,
  | 'start'
  | 'state'
  | 'close'
  | 'publish'
  | 'unpublish'
  | 'reportLinkFailed'
  | 'reportHealth'
  | 'attach'
  | 'detach'
>;

export interface ConnectorDeps {
  readonly namespace: string;
  readonly agent: PolicyInputBase['agent'];
  readonly own: OwnParty;
  readonly instanceSecret: string;
  readonly relays: readonly RelayNodeConfig[];
  readonly ca: string | undefined;
  /** The file that `ca` is of, for messages. */
  readonly caFile: string | undefined;
  /** Whether a relay's certificate is revoked. */
  readonly revocation?: ServerRevocation | undefined;
  /** The ways to the nodes; undefined: their ports in order. */
  readonly carriers?: CarrierBook;
  readonly credentials: readonly CredentialSource[];
  readonly certificate: LinkCertificate;
  readonly maxLinks: () => number;
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly logger: Logger;
  readonly audit: Pick<AuditLog, 'note'>;
  readonly revocations: RevocationSet;
  readonly publisher: Publisher;
  readonly streams: LiveStreams;
  readonly metrics: AgentMetrics;
  readonly barred: () => CloseReason | undefined;
  /** Why managed settings let nothing pass over this relay node. */
  readonly managed: (node: string) => CloseReason | undefined;
  readonly open: AgentLinkDeps['open'];
  readonly health: NonNullable<LoginHandlers['health']>;
  readonly login: MakeLogin;
  readonly openLink: (options: DataLinkOptions) => Promise<AuthenticatedPeer>;
}

interface Node {
  readonly config: RelayNodeConfig;
  readonly login: ReturnType<MakeLogin>;
  isHealthy: boolean;
  /** Set while the node stops: monotonic time at which it cuts what is left. */
  stopping: { readonly endMs: number } | undefined;
}

/**
 * Gateways leave a node that stops once they have a link elsewhere. Links that they still hold after this part of the
 * deadline and this long are left by the agent, so that no stream begins on them just to be cut.
 */
export const LEAVE_SHARE = 3 / 4;
export const LEAVE_MS = 7_500;
/** A node tells what is in force one by one behind a login; it is done within this. */
const SYNC_TIME_MS = 60 * 60 * 1_000;

/** Logins at every relay node, and the data links that came of their offers. */
export class Connector {
  readonly #deps: ConnectorDeps;
  readonly #nodes = new Map<string, Node>();
  /** What the logins hold while keys change. */
  readonly keys: KeyChanges;
  readonly #links = new Map<string, AgentLink>();
  /** Closed links that still wait for the relay's word. */
  readonly #ending = new Map<string, AgentLink>();
  readonly #lately: LatelyEnded;
  readonly #refusedKeys: RefusedKeys;
  readonly #closing = new AbortController();
  readonly #recentIds = new RecentIds();
  #handshakes = 0;
  /** Monotonic time at which the drain of this process cuts what is left; undefined before it drains. */
  #drainEndMs: number | undefined;

  constructor(deps: ConnectorDeps) {
    this.#deps = deps;
    this.#lately = new LatelyEnded(deps.clock);
    this.#refusedKeys = new RefusedKeys(deps.clock);
    // One listener per data link that is being opened; Node warns of a leak from the eleventh on.
    setMaxListeners(0, this.#closing.signal);
    this.keys = new KeyChanges({
      sources: deps.credentials,
      publisher: deps.publisher,
      ports: () => this.#ports(),
      links: () => this.links,
      clock: deps.clock,
      logger: deps.logger,
    });
    for (const config of deps.relays) {
      const login = deps.login({
        node: config,
        role: 'agent',
        name: deps.own.name,
        instance: deps.own.instance,
        instanceSecret: deps.instanceSecret,
        build: deps.own.build,
        namespace: deps.namespace,
        ca: deps.ca,
        caFile: deps.caFile,
        revocation: deps.revocation,
        carriers: deps.carriers?.of(config.host),
        clock: deps.clock,
        logger: deps.logger,
        credentials: deps.credentials,
        handlers: this.#handlers(config.host),
      });
      this.#nodes.set(config.host, { config, login, isHealthy: false, stopping: undefined });
    }
  }

  start(): void {
    for (const { login } of this.#nodes.values()) login.start();
  }

  /** The login to publish at; undefined at a node that stops, which offers nothing any more. */
  login(node: string): ReturnType<MakeLogin> | undefined {
    const entry = this.#nodes.get(node);
    return entry?.stopping === undefined ? entry?.login : undefined;
  }

  get logins(): readonly ReturnType<MakeLogin>[] {
    return [...this.#nodes.values()].map(({ login }) => login);
  }

  states(): readonly LoginState[] {
    return this.logins.map((login) => login.state());
  }

  /** The connections that this agent was given credentials for. */
  get connections(): readonly string[] {
    return [...new Set(this.keys.sources.flatMap(({ connection }) => connection ?? []))];
  }

  /** Keys that nodes do not take, of those that are held now. */
  refusedKeys(): readonly RefusedKey[] {
    return this.#refusedKeys.of(this.keys.sources);
  }

  get links(): readonly AgentLink[] {
    return [...this.#links.values()];
  }

  get handshakes(): number {
    return this.#handshakes;
  }

  /** Nodes that hear their control database, as far as this process was told (identity.md, Fences). */
  healthyNodes(): string[] {
    return [...this.#nodes.values()].filter(({ isHealthy }) => isHealthy).map(({ config }) => config.host);
  }

  /** Takes everything back at the relay and tells the gateways that no more streams are served. */
  drain(deadlineMs: number): void {
    this.#drainEndMs = this.#deps.clock.monotonicMs() + deadlineMs;
    for (const [node, { login }] of this.#nodes) {
      for (const connection of this.#deps.publisher.offeredAt(node)) login.unpublish(connection);
    }
    for (const link of this.#links.values()) link.goAway('agent_shutdown', deadlineMs);
  }

  /** Cuts every link and ends every login. */
  async close(): Promise<void> {
    this.#closing.abort();
    for (const link of this.links) link.cut('agent_shutdown');
    for (const link of [...this.#ending.values()]) link.settle();
    await Promise.all(this.logins.map((login) => login.close()));
  }

  #handlers(node: string): LoginHandlers {
    const { publisher, logger, metrics } = this.#deps;
    return {
      onDown: () => {
        metrics.reconnects.inc();
        this.#setHealthy(node, false);
        this.#setStopping(node, undefined);
        publisher.onDown(node);
      },
      onAttached: (credential) => {
        this.#refusedKeys.accept(node, credential.handle);
        publisher.onAttached(node, credential);
      },
      onCredentialRefused: ({ handle, code, detail }) => {
        const source = this.keys.sources.find((one) => one.handle === handle);
        if (source !== undefined) this.#refusedKeys.refuse(node, source, { code, detail });
        publisher.onCredentialRefused(node, handle, detail);
        this.keys.onRefused(node, handle, detail);
      },
      onConnection: (connection) => publisher.onConnection(node, connection),
      onConnectionGone: (name) => this.#onConnectionGone(node, name),
      onOffer: (offer) => {
        this.#onOffer(node, offer).catch((error: unknown) => {
          logger.error({ err: messageOf(error), link_id: offer.link_id }, 'opening a data link failed');
        });
      },
      onRevoked: (notice) => this.#onRevoked(node, notice),
      onLinkClosed: ({ link_id, reason }) => {
        (this.#links.get(link_id) ?? this.#ending.get(link_id))?.onClosedNotice(reason);
      },
      onStreamsQuery: ({ connection }) => Promise.resolve(streamInfos(this.#deps.streams, connection)),
      onStreamClose: ({ stream_id, reason }) => this.#onStreamClose(stream_id, reason),
      onGoAway: (deadlineMs) => this.#onNodeGoAway(node, deadlineMs),
      onNodeHealth: (healthy) => this.#setHealthy(node, healthy),
      health: this.#deps.health,
    };
  }

  #setHealthy(node: string, isHealthy: boolean): void {
    const entry = this.#nodes.get(node);
    if (entry !== undefined) entry.isHealthy = isHealthy;
  }

  #setStopping(node: string, stopping: Node['stopping']): void {
    const entry = this.#nodes.get(node);
    if (entry !== undefined) entry.stopping = stopping;
  }

  /** A node stops: gateways find nothing there any more, and links over it are left. Streams go on until it cuts. */
  #onNodeGoAway(node: string, deadlineMs: number): void {
    const { clock, wheel, logger, publisher } = this.#deps;
    const stopping = { endMs: clock.monotonicMs() + deadlineMs };
    logger.info({ node, deadline_ms: deadlineMs }, 'the relay node is going away');
    this.#setStopping(node, stopping);
    publisher.onDown(node);
    wheel.after(Math.min(LEAVE_MS, deadlineMs * LEAVE_SHARE), () => {
      // It may have come back meanwhile, and links with it.
      if (this.#nodes.get(node)?.stopping !== stopping) return;
      const leftMs = Math.max(0, stopping.endMs - clock.monotonicMs());
      for (const link of this.links) if (link.node === node) link.goAway('relay_shutdown', leftMs);
    });
  }

  #onConnectionGone(node: string, name: string): void {
    this.#deps.publisher.onConnectionGone(node, name);
    for (const link of this.links) {
      if (link.node === node && link.offer.connection === name) link.cut('connection_removed');
    }
  }

  #onStreamClose(streamId: string, reason: string): boolean {
    const found = this.#deps.streams.cut('admin_closed', (stream) => stream.id === streamId);
    if (found > 0)
      this.#deps.logger.info({ stream_id: streamId, reason }, 'stream closed by an administrator');
    return found > 0;
  }

  /** Everything on the key, agent or connection ends in this tick, whatever node it runs over; the file is written after. */
  #onRevoked(node: string, notice: RevokedNotice): { links: number; streams: number } | null {
    const { revocations, metrics, audit, clock, logger } = this.#deps;
    const startedMs = clock.monotonicMs();
    const kept = revocations.add(notice, node);
    const subject = subjectOfNotice(notice);
    const revoked = subjectIdOf(subject);
    const told = isCloseReason(notice.reason) ? notice.reason : 'key_revoked';
    const reason = revocations.reasonFor(revoked) ?? told;
    const before = this.#lately.takenBy((link) => endsLink(subject, this.#standing(link.offer)), reason);
    const hit = this.links.filter((link) => endsLink(subject, this.#standing(link.offer)));
    const cut = this.#deps.streams.cut(reason, ({ link }) => endsLink(subject, this.#standing(link.offer)));
    for (const link of hit) link.cut(reason);
    // A cut link comes to stand among those that ended lately; it has been counted here.
    this.#lately.forget(hit);
    const links = hit.length + before.links;
    const streams = cut + before.streams;
    const ms = clock.monotonicMs() - startedMs;
    metrics.revocationSeconds.observe(ms / MS_PER_SECOND);
    // What a node tells again at a login is mostly long past: it is kept, and noted only when it cut something.
    if ((kept === 'new' && notice.again !== true) || links > 0) {
      this.#deps.publisher.evaluateAll();
      logger.warn({ revoked, reason, links, streams, ms }, 'revoked');
      audit.note({
        type: 'revocation.enforced',
        subject: {
          namespace: this.#deps.namespace,
          agent: this.#deps.own.name,
          relay: node,
          ...(subject.key_id === null ? {} : { key_id: subject.key_id }),
          ...(subject.connection_id === null ? {} : { connection_id: subject.connection_id }),
        },
        data: { revocation_id: notice.revocation_id, reason, links, streams, ms },
      });
    }
    // Cut all the same, but not confirmed: the node tells it again until there is room, and shows this agent as pending.
    return kept === 'unkept' ? null : { links, streams };
  }

  /**
   * When the last login began at which its node has had the time to tell every revocation in force; undefined when there
   * is none. Wall clock.
   */
  lastSyncMs(): number | undefined {
    const beforeMs = this.#deps.clock.nowMs() - SYNC_TIME_MS;
    const since = this.states().flatMap((state) => (state.kind === 'up' ? [state.sinceMs] : []));
    const done = since.filter((sinceMs) => sinceMs <= beforeMs);
    return done.length === 0 ? undefined : Math.max(...done);
  }

  async #onOffer(nodeName: string, offer: LinkOffer): Promise<void> {
    const node = this.#nodes.get(nodeName);
    if (node === undefined) return;
    const { publisher } = this.#deps;
    const refused = this.#handshakes >= MAX_HANDSHAKES ? 'overloaded' : this.#whyNot(offer);
    if (refused !== undefined) {
      this.#report(node, offer, 'offer', refused, undefined);
      return;
    }
    let peer: AuthenticatedPeer;
    this.#handshakes += 1;
    try {
      const { own, certificate, clock, logger } = this.#deps;
      const signal = this.#closing.signal;
      peer = await this.#deps.openLink({
        side: 'agent',
        offer,
        node: node.config,
        ca: this.#deps.ca,
        revocation: this.#deps.revocation,
        carriers: this.#deps.carriers?.of(node.config.host),
        certificate,
        own,
        clock,
        logger,
        signal,
      });
    } catch (error) {
      const { step, reason } =
        error instanceof LinkError ? error : { step: 'dial', reason: 'link_failed' as const };
      this.#report(node, offer, step, reason, messageOf(error));
      return;
    } finally {
      this.#handshakes -= 1;
    }
    // Registered in the tick of this check, so that a revocation either is seen here or finds the link.
    const isClosing = this.#closing.signal.aborted;
    const late = isClosing ? 'agent_shutdown' : peer.duplex.destroyed ? 'link_lost' : this.#unfit(offer);
    if (late !== undefined) {
      peer.duplex.destroy();
      peer.raw.resetAndDestroy();
      this.#report(node, offer, 'hello', late, undefined);
      return;
    }
    const link = new AgentLink(peer, {
      namespace: this.#deps.namespace,
      agent: this.#deps.agent,
      labels: publisher.labels(nodeName, offer.connection),
      clock: this.#deps.clock,
      wheel: this.#deps.wheel,
      audit: this.#deps.audit,
      recentIds: this.#recentIds,
      open: this.#deps.open,
      target: () => this.#target(nodeName, offer),
      forbidden: (of) => this.#forbidden(of),
      onEnd: (ended) => this.#onLinkEnd(ended),
    });
    this.#links.set(link.id, link);
    // The gateway has the link already and may have opened streams: they are handed back, not reset.
    const { clock } = this.#deps;
    if (this.#drainEndMs !== undefined) {
      link.goAway('agent_shutdown', Math.max(0, this.#drainEndMs - clock.monotonicMs()));
    }
    this.keys.retire();
  }

  #ports(): KeyPort[] {
    return [...this.#nodes].map(([node, { login }]) => ({
      node,
      isUp: login.state().kind === 'up',
      attach: (source) => login.attach(source),
      detach: (handle) => login.detach(handle),
    }));
  }

  #onLinkEnd(link: AgentLink): void {
    this.#links.delete(link.id);
    this.#ending.set(link.id, link);
    link.whenRecorded(() => this.#ending.delete(link.id));
    this.#lately.add(link);
    this.keys.letGo();
  }

  #target(node: string, offer: LinkOffer): ConnectionInfo['target'] | undefined {
    const { connection, connection_id: id, listener } = offer;
    return this.#deps.publisher.target(node, connection, id, listener.id);
  }

  #forbidden(offer: LinkOffer): CloseReason | undefined {
    const { revocations, managed } = this.#deps;
    const revoked = standingIdsOf(this.#standing(offer))
      .map((id) => revocations.reasonFor(id))
      .find((reason) => reason !== undefined);
    return managed(offer.node) ?? revoked;
  }

  #standing(offer: LinkOffer): LinkStanding {
    const { name, instance } = this.#deps.own;
    const { sender, listener, connection_id: connectionId } = offer;
    return { keyIds: [sender.id, listener.id], agent: name, instance, connectionId };
  }

  #whyNot(offer: LinkOffer): CloseReason | undefined {
    return this.#deps.barred() ?? this.#unfit(offer);
  }

  /** What is wrong with an offer, whatever this process is about to do. */
  #unfit(offer: LinkOffer): CloseReason | undefined {
    const forbidden = this.#forbidden(offer);
    if (forbidden !== undefined) return forbidden;
    if (!offer.sender.claims.includes('Send')) return 'not_authorized';
    if (this.#target(offer.node, offer) === undefined) return 'unpublished';
    return this.#links.size >= this.#deps.maxLinks() ? 'overloaded' : undefined;
  }

  #report(node: Node, offer: LinkOffer, step: string, reason: CloseReason, detail: string | undefined): void {
    const { logger, audit, namespace, own } = this.#deps;
    logger.warn(
      { link_id: offer.link_id, connection: offer.connection, step, reason, detail },
      'no data link',
    );
    node.login.reportLinkFailed({ link_id: offer.link_id, step, side: 'agent', reason, detail });
    audit.note({
      type: 'link.refused',
      subject: {
        namespace,
        agent: own.name,
        relay: offer.node,
        gateway: offer.gateway,
        connection: offer.connection,
        connection_id: offer.connection_id,
        principal: offer.sender.principal,
        key_id: offer.sender.id,
        listener_principal: offer.listener.principal,
        listener_key_id: offer.listener.id,
        link_id: offer.link_id,
      },
      data: { side: 'agent', node: offer.node, reason, ...(detail === undefined ? {} : { detail }) },
    });
  }
}

const MS_PER_SECOND = 1_000;
