import { setMaxListeners } from 'node:events';
import {
  endsLink,
  type LinkStanding,
  standingIdsOf,
  subjectIdOf,
  subjectOfNotice,
} from '../identity/index.ts';
import {
  type AttachedCredential,
  type AuthenticatedPeer,
  type CarrierBook,
  type ConnectionInfo,
  type CredentialSource,
  type DataLinkOptions,
  LinkError,
  type LinkOffer,
  type LinkRefusal,
  type LinkRequest,
  type LoginHandlers,
  type LoginState,
  type NodeLogin,
  type NodeLoginOptions,
  type OwnParty,
  type RelayNodeConfig,
  type RevokedNotice,
  type ServerRevocation,
} from '../protocol/index.ts';
import {
  AppError,
  type Clock,
  type CloseReason,
  isCloseReason,
  type LinkCertificate,
  type Logger,
  messageOf,
  randomFraction,
  type TimerWheel,
} from '../runtime/index.ts';
import { GatewayLink } from './gateway-link.ts';
import { LinkPool } from './link-pool.ts';
import type { GatewayMetrics } from './metrics.ts';
import { NodeChoice } from './node-choice.ts';
import { OfferEndedError, OpeningOffer } from './opening-offer.ts';
import type { PinnedTargets } from './pinned-targets.ts';

const MS_PER_SECOND = 1_000;

/** Makes a login; the real one is `new NodeLogin(options)`. */
export type MakeLogin = (
  options: NodeLoginOptions,
) => Pick<
  NodeLogin,
  'start' | 'state' | 'close' | 'requestLink' | 'reportLinkFailed' | 'reportHealth' | 'attach' | 'detach'
>;

export interface PoolPlan {
  readonly credential: CredentialSource;
  readonly connection: string;
  readonly isEager: boolean;
}

export interface ConnectorDeps {
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
  readonly pools: readonly PoolPlan[];
  readonly pins: PinnedTargets;
  readonly certificate: LinkCertificate;
  readonly maxLinks: () => number;
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly logger: Logger;
  readonly metrics: GatewayMetrics;
  readonly health: NonNullable<LoginHandlers['health']>;
  readonly login: MakeLogin;
  readonly openLink: (options: DataLinkOptions) => Promise<AuthenticatedPeer>;
}

const standingOf = (offer: LinkOffer): LinkStanding => ({
  keyIds: [offer.sender.id, offer.listener.id],
  agent: offer.agent,
  instance: offer.peer.instance,
  connectionId: offer.connection_id,
});

const keyIdsOf = (pool: LinkPool): string[] => [
  ...new Set([...pool.credentials.values()].map(({ key_id }) => key_id)),
];

/** Logins at every relay node, and the pools of links that they make possible. */
export class Connector {
  readonly #deps: ConnectorDeps;
  readonly #logins = new Map<
    string,
    { readonly config: RelayNodeConfig; readonly login: ReturnType<MakeLogin> }
  >();
  /** By the credential's handle. */
  readonly #pools = new Map<string, LinkPool>();
  readonly #links = new Map<string, GatewayLink>();
  /** Ended links that still wait for the relay's word. */
  readonly #ending = new Map<string, GatewayLink>();
  readonly #choice: NodeChoice;
  readonly #closing = new AbortController();
  /** Ids of keys, agents and connections that some node said are revoked; nothing starts on them any more. */
  readonly #revoked = new Map<string, CloseReason>();
  /** Pools of new keys, by handle, that take over from the pool named once they have a link. */
  readonly #arriving = new Map<string, LinkPool>();
  /** Offers whose links are being opened, by link. */
  readonly #opening = new Map<string, OpeningOffer>();

  constructor(deps: ConnectorDeps) {
    this.#deps = deps;
    this.#choice = new NodeChoice(deps.clock, randomFraction);
    // One listener per data link that is being opened; Node warns of a leak from the eleventh on.
    setMaxListeners(0, this.#closing.signal);
    for (const plan of deps.pools) this.#pools.set(plan.credential.handle, this.#makePool(plan));
    for (const config of deps.relays) {
      const login = deps.login({
        node: config,
        role: 'gateway',
        name: deps.own.name,
        instance: deps.own.instance,
        instanceSecret: deps.instanceSecret,
        build: deps.own.build,
        namespace: deps.own.namespace,
        ca: deps.ca,
        caFile: deps.caFile,
        revocation: deps.revocation,
        carriers: deps.carriers?.of(config.host),
        clock: deps.clock,
        logger: deps.logger,
        credentials: deps.pools.map(({ credential }) => credential),
        handlers: this.#handlers(config.host),
      });
      this.#logins.set(config.host, { config, login });
    }
  }

  start(): void {
    for (const { login } of this.#logins.values()) login.start();
  }

  get pools(): readonly LinkPool[] {
    return [...this.#pools.values()];
  }

  /** The pools that new streams go to. */
  get current(): readonly LinkPool[] {
    return this.pools.filter((pool) => !pool.isReplaced && !this.#isArriving(pool));
  }

  /**
   * Another key for a connection. The old one's links carry new streams until there is a link on the new one; then they
   * serve out the streams they have, while their credential is kept.
   */
  changeKey(plan: PoolPlan): void {
    const { handle } = plan.credential;
    const old = this.current.find(({ connection }) => connection === plan.connection);
    if (old === undefined || this.#pools.has(handle)) return;
    for (const [other, replaced] of this.#arriving) if (replaced === old) this.#drop(other);
    this.#arriving.set(handle, old);
    this.#pools.set(handle, this.#makePool(plan));
    for (const login of this.logins) login.attach(plan.credential);
  }

  get links(): readonly GatewayLink[] {
    return [...this.#links.values()];
  }

  get opening(): number {
    return this.#opening.size;
  }

  get logins(): readonly ReturnType<MakeLogin>[] {
    return [...this.#logins.values()].map(({ login }) => login);
  }

  states(): readonly LoginState[] {
    return this.logins.map((login) => login.state());
  }

  healthyNodes(): string[] {
    return this.#choice.healthy();
  }

  maintain(): void {
    for (const handle of [...this.#arriving.keys()]) this.#tryArriving(handle);
    for (const [handle, pool] of [...this.#pools]) {
      pool.maintain();
      if (pool.isReplaced && pool.links.length === 0) this.#drop(handle);
    }
  }

  #isArriving(pool: LinkPool): boolean {
    for (const handle of this.#arriving.keys()) if (this.#pools.get(handle) === pool) return true;
    return false;
  }

  #drop(handle: string): void {
    this.#pools.get(handle)?.close();
    this.#pools.delete(handle);
    this.#arriving.delete(handle);
    for (const login of this.logins) login.detach(handle);
  }

  /** A new key takes over once it has a link; until then it is tried again every few seconds. */
  #tryArriving(handle: string): void {
    const [pool, old] = [this.#pools.get(handle), this.#arriving.get(handle)];
    if (pool === undefined || old === undefined || pool.waitingCount > 0) return;
    const { logger } = this.#deps;
    const { connection } = pool;
    const takeOver = (): void => {
      if (!this.#arriving.delete(handle)) return;
      old.replaceBy(pool);
      logger.info({ connection, key_ids: keyIdsOf(pool) }, 'new streams use the new key');
    };
    if (pool.pick() !== undefined) {
      takeOver();
      return;
    }
    if (pool.credentials.size === 0) return;
    pool.wait({
      serve: takeOver,
      fail: ({ code, detail }) => {
        logger.warn(
          { connection, reason: code },
          `the new key has no data link yet, the old one goes on: ${detail}`,
        );
      },
    });
  }

  /** Streams may finish; nothing new is opened. Resolves when the carriers of all links are closed. */
  async drain(deadlineMs: number): Promise<void> {
    for (const pool of this.pools) pool.close();
    const { links } = this;
    for (const link of links) link.retire('gateway_shutdown', deadlineMs);
    await Promise.all(links.map((link) => link.whenClosed()));
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('closed'));
    for (const pool of this.pools) pool.close();
    for (const link of this.links) link.cut('gateway_shutdown');
    await Promise.all(this.logins.map((login) => login.close()));
  }

  #makePool({ connection, isEager }: PoolPlan): LinkPool {
    const { certificate, clock, logger, maxLinks } = this.#deps;
    const pool: LinkPool = new LinkPool({
      connection,
      isEager,
      nodes: this.#deps.relays.map(({ host }) => host),
      spki: certificate.spki,
      clock,
      logger,
      choice: this.#choice,
      request: (node, request) => this.#request(node, request),
      open: (node, offer, signal) => this.#open(pool, node, offer, signal),
      decline: (node, { link_id }, detail) => {
        const report = { link_id, step: 'offer', side: 'gateway' as const, reason: 'link_failed', detail };
        this.#logins.get(node)?.login.reportLinkFailed(report);
      },
      mayOpen: () => this.#links.size + this.#opening.size < maxLinks(),
    });
    return pool;
  }

  #request(node: string, request: LinkRequest): Promise<LinkOffer | LinkRefusal> {
    const entry = this.#logins.get(node);
    if (entry === undefined) throw new AppError('ERR_GATEWAY_CONFIG', `no relay node ${node}`);
    return entry.login.requestLink(request);
  }

  async #open(pool: LinkPool, node: string, offer: LinkOffer, givenUp: AbortSignal): Promise<GatewayLink> {
    const { own, certificate, clock, logger, wheel } = this.#deps;
    const entry = this.#logins.get(node);
    if (entry === undefined) throw new AppError('ERR_GATEWAY_CONFIG', `no relay node ${node}`);
    if (offer.connection !== pool.connection) {
      throw new AppError(
        'ERR_GATEWAY_OFFER',
        `asked for ${pool.connection}, was offered ${offer.connection}`,
      );
    }
    let peer: AuthenticatedPeer;
    const opening = new OpeningOffer();
    this.#opening.set(offer.link_id, opening);
    const unwanted = AbortSignal.any([this.#closing.signal, givenUp]);
    try {
      const signal = AbortSignal.any([unwanted, opening.signal]);
      peer = await this.#deps.openLink({
        side: 'gateway',
        offer,
        node: entry.config,
        ca: this.#deps.ca,
        revocation: this.#deps.revocation,
        carriers: this.#deps.carriers?.of(entry.config.host),
        certificate,
        own,
        clock,
        logger,
        signal,
      });
    } catch (error) {
      const { step, reason } = error instanceof LinkError ? error : { step: 'dial', reason: 'link_failed' };
      // The node resets what it has ended, and says why on another connection.
      const isReset = reason === 'link_failed' && step !== 'dial' && !unwanted.aborted;
      const told = isReset || opening.signal.aborted ? await opening.endReason(clock) : undefined;
      if (told !== undefined) throw new OfferEndedError(told);
      entry.login.reportLinkFailed({
        link_id: offer.link_id,
        step,
        side: 'gateway',
        reason,
        detail: messageOf(error),
      });
      throw error;
    } finally {
      this.#opening.delete(offer.link_id);
    }
    // Registered in the tick of this check, so that a revocation either is seen here or finds the link.
    const revoked = standingIdsOf(standingOf(offer))
      .map((id) => this.#revoked.get(id))
      .find((reason) => reason !== undefined);
    if (revoked !== undefined || peer.duplex.destroyed) {
      peer.duplex.destroy();
      peer.raw.resetAndDestroy();
      throw new AppError('ERR_GATEWAY_OFFER', `the new data link ended: ${revoked ?? 'link_lost'}`, {
        retryable: true,
      });
    }
    const link = new GatewayLink(peer, clock, wheel, {
      onGoAway: () => pool.onGoAway(),
      onEnd: (ended) => this.#onLinkEnd(pool, ended),
    });
    this.#links.set(link.id, link);
    return link;
  }

  #onLinkEnd(pool: LinkPool, link: GatewayLink): void {
    this.#links.delete(link.id);
    this.#ending.set(link.id, link);
    pool.onLinkEnd(link);
    link.whenEndKnown((reason) => {
      this.#ending.delete(link.id);
      if (!link.isRetiring) {
        const { connection, link_id, node } = link.offer;
        this.#deps.logger.warn({ connection, link_id, node, reason }, 'data link ended');
      }
    });
  }

  #handlers(node: string): LoginHandlers {
    const { metrics, health } = this.#deps;
    return {
      onDown: ({ detail, status }) => {
        metrics.reconnects.inc();
        this.#choice.gone(node);
        this.#deps.pins.forget(node);
        const isFinal = status !== undefined && status >= 400 && status < 500 && status !== 429;
        const failure = isFinal ? { code: 'not_authorized' as const, detail } : undefined;
        for (const pool of this.pools) pool.onDetached(node, failure);
      },
      onAttached: (credential) => {
        const verdict = this.#deps.pins.attach(node, credential);
        if (verdict === true) this.#use(node, credential);
        else if (verdict !== undefined) this.#pools.get(credential.handle)?.onDetached(node, verdict);
      },
      onConnection: (connection) => this.#onConnection(node, connection),
      onCredentialRefused: ({ handle, code, detail }) => {
        this.#deps.pins.detach(node, handle);
        const connection = this.#pools.get(handle)?.connection;
        const what = this.#arriving.has(handle)
          ? 'the new key is refused, the old one goes on'
          : `the key of ${String(connection)} is refused`;
        this.#deps.logger.error({ node, connection, code }, `${what}: ${detail}`);
        const reason: CloseReason = isCloseReason(code) ? code : 'not_authorized';
        this.#pools.get(handle)?.onDetached(node, { code: reason, detail });
      },
      onConnectionGone: (name) => {
        for (const pool of this.pools) {
          if (pool.connection === name) pool.cut('connection_removed', (link) => link.node === node);
        }
      },
      onRevoked: (notice) => this.#onRevoked(notice),
      onLinkClosed: ({ link_id, reason }) => {
        const link = this.#links.get(link_id) ?? this.#ending.get(link_id) ?? this.#opening.get(link_id);
        link?.onClosedNotice(reason);
      },
      onGoAway: (deadlineMs) => this.#onNodeGoAway(node, deadlineMs),
      onNodeHealth: (healthy) => this.#choice.health(node, healthy),
      health,
    };
  }

  #use(node: string, credential: AttachedCredential): void {
    this.#pools.get(credential.handle)?.onAttached(node, credential);
    this.#tryArriving(credential.handle);
  }

  /** A node says what a connection is: one whose target is another than gateway.yaml has it is not used there. */
  #onConnection(node: string, connection: ConnectionInfo): void {
    const told = this.#deps.pins.tell(node, connection);
    if (told === undefined) return;
    const { verdict, credentials } = told;
    if (verdict === true) {
      for (const credential of credentials) this.#use(node, credential);
      return;
    }
    const { name } = connection;
    this.#deps.logger.error({ connection: name, node }, `the connection is refused: ${verdict.detail}`);
    for (const pool of this.pools.filter((one) => one.connection === name)) {
      pool.onDetached(node, verdict);
      pool.cut('connection_unknown', (link) => link.node === node);
    }
  }

  /** Own key or the agent's, the agent or the connection itself: every stream on it ends in this tick, whatever node its link runs over. */
  #onRevoked(notice: RevokedNotice): { links: number; streams: number } {
    const { clock, metrics, logger } = this.#deps;
    const startedMs = clock.monotonicMs();
    const reason: CloseReason = isCloseReason(notice.reason) ? notice.reason : 'key_revoked';
    const subject = subjectOfNotice(notice);
    this.#revoked.set(subjectIdOf(subject), reason);
    const cut = { links: 0, streams: 0 };
    for (const pool of this.pools) {
      const { links, streams } = pool.cut(reason, ({ offer }) => endsLink(subject, standingOf(offer)));
      cut.links += links;
      cut.streams += streams;
      if (subject.key_id !== null && keyIdsOf(pool).includes(subject.key_id)) {
        pool.onKeyRevoked({ code: reason, detail: `key ${subject.key_id} is revoked` });
      }
    }
    const ms = clock.monotonicMs() - startedMs;
    metrics.revocationSeconds.observe(ms / MS_PER_SECOND);
    logger.warn({ revoked: subjectIdOf(subject), reason, ...cut, ms }, 'revoked');
    return cut;
  }

  /** A node stops: links over it are replaced elsewhere, its streams finish or are cut at its deadline. */
  #onNodeGoAway(node: string, deadlineMs: number): void {
    this.#deps.logger.info({ node, deadline_ms: deadlineMs }, 'the relay node is going away');
    this.#choice.leaving(node, deadlineMs);
    for (const pool of this.pools) pool.onNodeLeaving(node, deadlineMs);
  }
}
