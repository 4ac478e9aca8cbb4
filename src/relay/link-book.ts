import {
  type LinkOffer,
  type LinkRefusal,
  OFFER_LIFE_MS,
  type Payload,
  type Side,
  TokenBook,
} from '../protocol/index.ts';
import {
  type Clock,
  type CloseReason,
  isCloseReason,
  type Logger,
  randomFraction,
  TimerWheel,
  uuidv7,
  resetSocket,
  type ResettableStream,
} from '../runtime/index.ts';
import { DataLink, type LinkParty } from './data-link.ts';
import type { Fence } from './fence.ts';
import type { JoinCarriers } from './link-pipe.ts';
import type { HeldCredential, Login } from './login.ts';

/** Links of one login, protocol.md "Rendezvous". */
export const MAX_LINKS = { gateway: 256, agent: 4_096 } as const;
/** Rendezvous of one agent that are not joined yet; beyond it `overloaded`. */
export const MAX_HANDSHAKES = 16;
const OVERLOADED_RETRY_MS = 250;
const NO_AGENT_RETRY_MS = 1_000;

export interface LinkBookOptions {
  /** Public name of this node: what offers carry. */
  readonly node: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly fence: Fence;
  readonly isRevoked: (keyId: string) => boolean;
  /** Why a link is dead: a key, its agent or its connection is revoked. */
  readonly endedBecause: (link: DataLink) => CloseReason | undefined;
  /** Agents that serve a connection now, each with its publication's credential and SPKI. */
  readonly publishers: (connection: string) => readonly LinkParty[];
  readonly join: JoinCarriers;
  readonly onJoined: (link: DataLink) => void;
  /** In the tick that ends a link. */
  readonly onClosed: (link: DataLink, reason: CloseReason) => void;
  /** No byte of the link moves any more and its counts are final: in the same tick, or when a pipe worker has said so. */
  readonly onSettled: (link: DataLink, reason: CloseReason, wasJoined: boolean) => void;
}

const refuse = (code: CloseReason, detail: string, retry_after_ms?: number): LinkRefusal => ({
  refused: true,
  code,
  detail,
  retry_after_ms,
});

/** Why a credential may not be used, in words of its key: its name on the login says nothing to a person. */
const refuseEnded = (ended: HeldCredential | undefined): LinkRefusal => {
  if (ended === undefined) return refuse('not_authorized', 'the gateway has no credential attached for it');
  const { endedBecause, verified } = ended;
  const because = endedBecause ?? '';
  const code: CloseReason = isCloseReason(because) ? because : 'not_authorized';
  const why = code === 'key_revoked' ? 'is revoked' : `does not count any more (${because})`;
  return refuse(code, `key ${verified.key_id} ${why}`);
};

/** Every rendezvous and data link of this node: makes offers, joins carriers, cuts. */
export class LinkBook {
  readonly #options: LinkBookOptions;
  readonly #links = new Map<string, DataLink>();
  readonly #tokens = new TokenBook<DataLink>();
  readonly #deadlines: TimerWheel;
  readonly #settling = new Set<Promise<void>>();
  #closed: CloseReason | undefined;

  constructor(options: LinkBookOptions) {
    this.#options = options;
    this.#deadlines = new TimerWheel(options.clock);
  }

  all(): readonly DataLink[] {
    return [...this.#links.values()];
  }

  get size(): number {
    return this.#links.size;
  }

  /** No offer is made and no carrier joined from now on. */
  refuseAll(reason: CloseReason): void {
    this.#closed ??= reason;
  }

  /** Forgets its timers. */
  close(): void {
    this.#deadlines.close();
  }

  /** Picks an agent for a gateway's request and makes the offer to both. Synchronous: what it checks holds. */
  offer(login: Login, request: Payload<'link.request'>): LinkOffer | LinkRefusal {
    const { clock, fence, isRevoked, node } = this.#options;
    if (this.#closed !== undefined) return refuse(this.#closed, 'node is stopping');
    const credential = login.usable(request.cred);
    if (login.role !== 'gateway' || credential === undefined) {
      return refuseEnded(login.ended(request.cred));
    }
    const { verified } = credential;
    if (verified.connection !== request.connection || !verified.claims.includes('Send')) {
      return refuse('not_authorized', `credential is not for sending to ${request.connection}`);
    }
    if (isRevoked(verified.key_id)) return refuse('key_revoked', `key ${verified.key_id} is revoked`);
    if (!fence.admits) return refuse('node_fenced', 'node does not hear its control database');
    if (login.linkCount >= MAX_LINKS.gateway) {
      return refuse('overloaded', `gateway has ${MAX_LINKS.gateway} links already`, OVERLOADED_RETRY_MS);
    }
    const agent = this.#pickAgent(request);
    if ('refused' in agent) return agent;

    const gateway: LinkParty = { login, credential, spki: request.spki };
    const link = new DataLink(
      {
        id: uuidv7(clock),
        connection: request.connection,
        connectionId: verified.connection_id,
        gateway,
        agent,
        offeredMs: clock.nowMs(),
        monotonicMs: clock.monotonicMs(),
      },
      {
        join: this.#options.join,
        onJoined: (joined) => this.#joined(joined),
        onClosed: (closed, reason, wasJoined, settled) => this.#gone(closed, reason, wasJoined, settled),
      },
    );
    this.#links.set(link.id, link);
    for (const { login: party } of [gateway, agent]) {
      party.linkCount += 1;
      party.handshakeCount += 1;
    }
    const tokens = { gateway: this.#tokens.issue(link, 'gateway'), agent: this.#tokens.issue(link, 'agent') };
    this.#deadlines.after(OFFER_LIFE_MS, () => {
      this.#tokens.withdraw(tokens.gateway);
      this.#tokens.withdraw(tokens.agent);
      link.expire();
    });
    const shared = {
      link_id: link.id,
      node,
      connection: link.connection,
      connection_id: link.connectionId,
      sender: link.sender,
      listener: link.listener,
      gateway: login.name,
      agent: agent.login.name,
    };
    const peer = (party: LinkParty): LinkOffer['peer'] => ({
      spki: party.spki,
      name: party.login.name,
      instance: party.login.instance,
    });
    agent.login.channel?.send('link.offer', {
      ...shared,
      token: tokens.agent,
      peer: peer(gateway),
      sender: { ...shared.sender, claims: [...shared.sender.claims] },
      listener: { ...shared.listener, claims: [...shared.listener.claims] },
      source_address: login.address,
    });
    return { ...shared, token: tokens.gateway, peer: peer(agent) };
  }

  /**
   * Whether a request asked only for another agent than it has, and there is none: the connection is served all the same,
   * and no stream failed of it.
   */
  isOnlyForAnother({ connection, exclude, want }: Payload<'link.request'>, { code }: LinkRefusal): boolean {
    const isChoosy = exclude.length > 0 || want !== undefined;
    return code === 'no_agent' && isChoosy && this.#serving(connection).length > 0;
  }

  /** Whether this token is good for this side now; `arrive` uses it up. */
  expects(side: Side, token: string): boolean {
    return this.#tokens.sideOf(token) === side;
  }

  /**
   * A carrier showed a token. Re-checks revocation and fence in this tick; whoever has no good token is reset.
   *
   * @param head what was read of the carrier and is to be forwarded first
   */
  arrive(side: Side, token: string, socket: ResettableStream, head: Buffer): void {
    const entry = this.#tokens.take(token);
    if (entry?.side !== side) {
      resetSocket(socket);
      if (entry !== undefined) entry.link.cut('protocol_error');
      return;
    }
    const { link } = entry;
    const obstacle = this.#obstacle(link);
    if (obstacle !== undefined) {
      resetSocket(socket);
      link.cut(obstacle);
      return;
    }
    link.arrive(side, socket, head, this.#options.clock.monotonicMs());
  }

  /** A side reports that its part of a rendezvous failed. */
  failed(login: Login, report: Payload<'link.failed'>): void {
    const link = this.#links.get(report.link_id);
    if (link?.party(login.role).login !== login) return;
    this.#options.logger.info(
      { link_id: link.id, side: login.role, step: report.step, reason: report.reason, detail: report.detail },
      'data link failed',
    );
    // Only an agent refuses; a gateway that declines has a link already.
    const { reason } = report;
    link.fail(login.role, login.role === 'agent' && isCloseReason(reason) ? reason : undefined);
  }

  /** Cuts every link that the predicate names, all in this call; returns how many had been joined. */
  cutWhere(names: (link: DataLink) => boolean, reason: CloseReason): number {
    let joined = 0;
    for (const link of this.all()) {
      if (!names(link)) continue;
      if (link.state === 'joined') joined += 1;
      link.cut(reason);
    }
    return joined;
  }

  /** Undefined when no byte of a link that was cut moves any more; else what resolves when that is so. Never rejects. */
  settled(): Promise<void> | undefined {
    if (this.#settling.size === 0) return undefined;
    return Promise.all(this.#settling).then(() => undefined);
  }

  /** The same process has logged in anew: its links follow. */
  adopt(login: Login, secret: string): void {
    const claim = { role: login.role, name: login.name, instance: login.instance, instanceSecret: secret };
    for (const link of this.#links.values()) {
      const party = link.party(login.role);
      if (party.login === login || !party.login.isSameInstance(claim)) continue;
      const pending = link.state === 'joined' ? 0 : 1;
      party.login.linkCount -= 1;
      party.login.handshakeCount -= pending;
      login.linkCount += 1;
      login.handshakeCount += pending;
      party.login = login;
    }
  }

  /** A credential was attached by a login: its links of the same key and connection live as long as it does. */
  rebind(login: Login, credential: HeldCredential): void {
    for (const link of this.#links.values()) {
      const party = link.party(login.role);
      const bound = party.credential.verified;
      if (party.login !== login || party.credential === credential) continue;
      if (bound.key_id !== credential.verified.key_id) continue;
      if (bound.connection_id === credential.verified.connection_id) party.credential = credential;
    }
  }

  /** About once a second: liveness of the pipes. */
  tick(): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const link of this.all()) link.tick(nowMs);
  }

  #serving(connection: string): LinkParty[] {
    return this.#options
      .publishers(connection)
      .filter(({ credential }) => !this.#options.isRevoked(credential.verified.key_id));
  }

  #pickAgent(request: Payload<'link.request'>): LinkParty | LinkRefusal {
    const { connection, exclude, want } = request;
    const serving = this.#serving(connection);
    const candidates = serving
      .filter(({ login }) => !exclude.includes(login.instance))
      .filter(({ login }) => want === undefined || login.instance === want);
    if (candidates.length === 0) {
      const who = serving.length === 0 ? 'no agent' : 'no other agent';
      return refuse('no_agent', `${who} publishes ${connection}`, NO_AGENT_RETRY_MS);
    }
    const free = candidates.filter(
      ({ login }) => login.handshakeCount < MAX_HANDSHAKES && login.linkCount < MAX_LINKS.agent,
    );
    const least = Math.min(...free.map(({ login }) => login.linkCount));
    const best = free.filter(({ login }) => login.linkCount === least);
    const picked = best[Math.floor(randomFraction() * best.length)];
    if (picked === undefined) {
      return refuse('overloaded', `every agent of ${connection} is busy with links`, OVERLOADED_RETRY_MS);
    }
    return { ...picked };
  }

  /** Why a link may not be joined now. */
  #obstacle(link: DataLink): CloseReason | undefined {
    const { fence, endedBecause } = this.#options;
    if (this.#closed !== undefined) return this.#closed;
    if (!fence.admits) return 'node_fenced';
    const revoked = endedBecause(link);
    if (revoked !== undefined) return revoked;
    const ended = [link.gateway, link.agent].some((party) => party.credential.endedBecause !== undefined);
    return ended ? 'token_expired' : undefined;
  }

  #joined(link: DataLink): void {
    link.gateway.login.handshakeCount -= 1;
    link.agent.login.handshakeCount -= 1;
    this.#options.onJoined(link);
  }

  #gone(link: DataLink, reason: CloseReason, wasJoined: boolean, settled: Promise<void> | undefined): void {
    this.#links.delete(link.id);
    for (const { login } of [link.gateway, link.agent]) {
      login.linkCount -= 1;
      if (!wasJoined) login.handshakeCount -= 1;
    }
    const { onClosed, onSettled } = this.#options;
    onClosed(link, reason);
    if (settled === undefined) {
      onSettled(link, reason, wasJoined);
      return;
    }
    const settling = settled.then(() => {
      this.#settling.delete(settling);
      onSettled(link, reason, wasJoined);
    });
    this.#settling.add(settling);
  }
}
