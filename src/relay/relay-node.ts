import type { Server as HttpsServer } from 'node:https';
import { type AuditLog, AuthFailures } from '../audit/index.ts';
import type { AgentLogin, ConnectionChange, Control, LiveState } from '../control/index.ts';
import { type ControlMessage, probeAnswer, type Side } from '../protocol/index.ts';
import {
  type Clock,
  type CloseReason,
  type Logger,
  type Registry,
  type ResettableStream,
  spkiFingerprint,
  type Timer,
  uuidv7,
} from '../runtime/index.ts';
import { Acceptor } from './acceptor.ts';
import { CarrierEndpoint } from './carrier-endpoint.ts';
import { type Arrival, ControlEndpoint } from './control-endpoint.ts';
import type { DataLink } from './data-link.ts';
import { RevocationEnforcement } from './enforcement.ts';
import { Entrance } from './entrance.ts';
import { Failures } from './failures.ts';
import { Fence } from './fence.ts';
import { Gatekeeper } from './gatekeeper.ts';
import { LinkBook } from './link-book.ts';
import { LinkRefusals } from './link-refusals.ts';
import { agentLoginOf, RelayLiveState } from './live-state.ts';
import { type HeldCredential, Login } from './login.ts';
import { LoginBook } from './login-book.ts';
import { LoginSession } from './login-session.ts';
import { Origins } from './origin.ts';
import { createOwnHttps } from './own-https.ts';
import { RawSockets } from './raw-sockets.ts';
import { RelayEvidence } from './relay-evidence.ts';
import { type RelayMetrics, relayMetrics } from './relay-metrics.ts';
import { PipeWorkers, type WorkerStatus } from './workers/pipe-workers.ts';
import { SelfProbe } from './self-probe.ts';
import { type TrustedProxy, TrustedProxies } from './trusted-proxies.ts';

const TICK_MS = 1_000;
/** Every login is told this often whether the node hears its control database. */
const HEALTH_EVERY_TICKS = 10;

export interface RelayNodeOptions {
  readonly namespace: string;
  /** Name of this node in events and listings. */
  readonly node: string;
  /** Public host name of this node: what offers carry. */
  readonly publicHost: string;
  /** Ports that agents and gateways dial there; this node watches that it alone answers at them. Default: none. */
  readonly publicPorts?: readonly number[];
  /** `HOST:PORT` each. */
  readonly listen: readonly string[];
  readonly tls: { readonly cert: string; readonly key: string };
  /** Processes that copy the bytes of data links; 0, the default: this one. */
  readonly workers?: number;
  readonly trustedProxies?: readonly TrustedProxy[];
  readonly fenceAfterMs?: number;
  readonly cutAfterMs?: number | 'never';
  readonly control: Pick<Control, 'admission' | 'connections' | 'revocations'>;
  readonly audit: Pick<AuditLog, 'note'>;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** One relay node: its public port, logins, links, fence and revocations. Opens no database itself. */
export class RelayNode {
  readonly live: LiveState;
  readonly #options: RelayNodeOptions;
  readonly #fence: Fence;
  readonly #logins: LoginBook;
  readonly #links: LinkBook;
  readonly #enforcement: RevocationEnforcement;
  readonly #acceptor: Acceptor;
  readonly #endpoint: ControlEndpoint;
  readonly #failures = new Failures();
  readonly #authFailures: AuthFailures;
  readonly #refusals: LinkRefusals;
  readonly #metrics: RelayMetrics;
  readonly #evidence: RelayEvidence;
  readonly #gate: Gatekeeper;
  readonly #sessions = new Map<Login, LoginSession>();
  readonly #https: HttpsServer;
  readonly #workers: PipeWorkers;
  readonly #selfProbe: SelfProbe;
  /** Of the certificate that is shown now. */
  #spki: string;
  #notices: { readonly link: DataLink; readonly reason: CloseReason }[] = [];
  #ticker: Timer | undefined;
  #ticks = 0;
  #wasAdmitting = true;
  #draining = false;
  #onIdle: (() => void) | undefined;

  constructor(options: RelayNodeOptions) {
    this.#options = options;
    this.#spki = spkiFingerprint(options.tls.cert);
    const { clock, logger, audit, control, namespace, node } = options;
    const { revocations } = control;
    const proxies = new TrustedProxies(options.trustedProxies ?? []);
    const origins = new Origins();
    this.#fence = new Fence({
      clock,
      lastHeardMonotonicMs: () => revocations.lastHeardMonotonicMs(),
      ...(options.fenceAfterMs === undefined ? {} : { fenceAfterMs: options.fenceAfterMs }),
      ...(options.cutAfterMs === undefined ? {} : { cutAfterMs: options.cutAfterMs }),
    });
    this.#logins = new LoginBook({
      clock,
      onExpired: (_login, held) => this.#expired(held),
      onForgotten: (login, reason) => this.#forgotten(login, reason),
    });
    this.#workers = new PipeWorkers({ count: options.workers ?? 0, clock, logger });
    this.#evidence = new RelayEvidence({ audit, namespace, node, clock });
    this.#gate = new Gatekeeper({ namespace, fence: this.#fence, logins: this.#logins, revocations });
    this.#links = new LinkBook({
      node: options.publicHost,
      clock,
      logger,
      fence: this.#fence,
      isRevoked: (keyId) => revocations.isRevoked(keyId) !== undefined,
      endedBecause: (link) => this.#gate.endedBecause(link.standing),
      publishers: (connection) => this.#logins.publishers(connection),
      onJoined: (link) => this.#evidence.linkOpened(link),
      join: (gateway, agent, nowMs, onEnd) => this.#workers.join(gateway, agent, nowMs, onEnd),
      onClosed: (link, reason) => this.#closed(link, reason),
      onSettled: (link, reason, wasJoined) => this.#settled(link, reason, wasJoined),
    });
    this.#metrics = relayMetrics(options.registry, this.#links, this.#logins, this.#workers);
    this.#authFailures = new AuthFailures(audit, { namespace, relay: node }, clock);
    this.#refusals = new LinkRefusals({ audit, failures: this.#failures, namespace, node, clock });
    this.#endpoint = new ControlEndpoint({
      admission: control.admission,
      clock,
      logger,
      failures: this.#authFailures,
      onRefused: (refused) => this.#failures.addLogin(refused, clock),
      proxies,
      origins,
      closedBecause: () => this.#gate.closedBecause(),
      refusedNow: (credential) => this.#gate.refusedNow(credential),
      onArrival: (arrival) => this.arrived(arrival),
    });
    this.#enforcement = new RevocationEnforcement({
      node,
      namespace,
      links: this.#links,
      logins: this.#logins,
      feed: revocations,
      audit,
      clock,
      logger,
      observe: (seconds) => this.#metrics.revocationEnforced(seconds),
    });
    revocations.onRevoked((revocation) => this.#enforcement.enforce(revocation));
    revocations.onConnectionChanged((change) => this.#connectionChanged(change));
    const raws = new RawSockets();
    const run = uuidv7(clock);
    const { publicHost: host, publicPorts: ports = [] } = options;
    const answerProbe = (): string => probeAnswer({ host, run, spki: this.#spki });
    const carriers = new CarrierEndpoint({
      raws,
      probeAnswer: answerProbe,
      expects: (side, token) => this.#links.expects(side, token),
      onCarrier: (side, token, carrier, head) => this.carrierArrived(side, token, carrier, head),
    });
    this.#https = createOwnHttps(options.tls, {
      control: (request, socket, head) => this.#endpoint.upgrade(request, socket, head),
      carrier: (request, socket, head) => carriers.upgrade(request, socket, head),
    });
    this.#selfProbe = new SelfProbe({ host, ports, run, clock, logger });
    this.#acceptor = new Acceptor({
      listen: options.listen,
      tls: options.tls,
      probeAnswer: answerProbe,
      entrance: new Entrance({ proxies, origins, clock, logger }),
      clock,
      logger,
      https: this.#https,
      raws,
      onCarrier: (side, token, socket, head) => this.carrierArrived(side, token, socket, head),
    });
    this.live = new RelayLiveState({
      node,
      links: this.#links,
      logins: this.#logins,
      failures: this.#failures,
      clock,
      logger,
    });
  }

  /**
   * Opens the public ports.
   *
   * @returns `HOST:PORT` of each listener
   * @throws AppError ERR_LISTEN_REFUSED
   */
  async listen(): Promise<string[]> {
    await this.#workers.start();
    const bound = await this.#acceptor.listen();
    this.#selfProbe.start();
    this.#ticker = this.#options.clock.every(TICK_MS, () => this.#tick()).unref();
    return bound;
  }

  /** Shows another certificate from the next handshake on. */
  useCertificate(tls: { readonly cert: string; readonly key: string }): void {
    this.#spki = spkiFingerprint(tls.cert);
    this.#https.setSecureContext({ ...tls, minVersion: 'TLSv1.2' });
    this.#acceptor.useCertificate(tls);
  }

  /** Why a stream could not be carried now; empty when it could. */
  notReady(): string[] {
    const reasons: string[] = [];
    if (this.#draining) reasons.push('node is stopping');
    if (!this.#fence.admits) reasons.push('control database was not heard lately');
    return [...reasons, ...this.#selfProbe.conflicts()];
  }

  /** Who is linked here: agents that publish something, and gateways. */
  parties(): { agents: number; gateways: number } {
    const connected = this.#logins.connected();
    return {
      agents: connected.filter(({ role, published }) => role === 'agent' && published.size > 0).length,
      gateways: connected.filter(({ role }) => role === 'gateway').length,
    };
  }

  /** Every agent's login here, for the list over all nodes. */
  agents(): AgentLogin[] {
    const agents = this.#logins.all().filter(({ role }) => role === 'agent');
    return agents.map((login) => agentLoginOf(login));
  }

  /** Counts for `/status`. */
  status(): {
    logins: number;
    links: number;
    admits: boolean;
    draining: boolean;
    workers: readonly WorkerStatus[];
  } {
    return {
      logins: this.#logins.size,
      links: this.#links.size,
      admits: this.#fence.admits,
      draining: this.#draining,
      workers: this.#workers.status(),
    };
  }

  /** Takes nothing new, tells every login, and waits for the links to end, at most `deadlineMs`. */
  async drain(deadlineMs: number): Promise<void> {
    if (this.#draining) return;
    this.#draining = true;
    this.#gate.drain();
    this.#links.refuseAll('relay_shutdown');
    // Whoever takes this node's place may answer from now on.
    const probed = this.#selfProbe.close();
    this.#acceptor.stop();
    for (const { channel } of this.#logins.connected()) channel?.send('goaway', { deadline_ms: deadlineMs });
    await probed;
    if (this.#links.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(deadlineMs, resolve);
      this.#onIdle = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  /** Cuts what is left and ends every login. */
  async close(): Promise<void> {
    this.#draining = true;
    this.#gate.drain();
    this.#links.refuseAll('relay_shutdown');
    this.#ticker?.cancel();
    const probed = this.#selfProbe.close();
    this.#links.cutWhere(() => true, 'relay_shutdown');
    this.#sendNotices();
    await this.#links.settled();
    for (const login of this.#logins.all()) this.#logins.forget(login, 'relay_shutdown');
    this.#logins.close();
    this.#links.close();
    this.#authFailures.close();
    this.#refusals.close();
    await probed;
    await this.#acceptor.close();
    await this.#workers.close();
    this.#https.close();
  }

  /** A data carrier showed a token to one of the ports; `head` is what was read of it and is to be forwarded. */
  carrierArrived(side: Side, token: string, socket: ResettableStream, head: Buffer): void {
    this.#links.arrive(side, token, socket, head);
  }

  /** A login begins, or takes the place of the one of the same process run. Synchronous. */
  arrived(arrival: Arrival): {
    onMessage: (message: ControlMessage) => void;
    onClose: (detail: string) => void;
  } {
    const { channel, credential, hello, helloId, role, address } = arrival;
    const { clock, logger, control } = this.#options;
    const nothing = { onMessage: () => undefined, onClose: () => undefined };
    const facts = {
      id: uuidv7(clock),
      role,
      name: hello.name,
      instance: hello.instance ?? '',
      instanceSecret: hello.instance_secret ?? '',
      build: hello.build,
      address,
      openedMs: clock.nowMs(),
      bundleSha256: hello.bundle_sha256,
    };
    const refusal =
      this.#gate.closedBecause() ??
      this.#gate.refusedNow(credential) ??
      this.#gate.agentRefused(facts) ??
      this.#gate.helloProblem(hello, facts);
    if (refusal !== undefined) {
      const { status, code, detail } = refusal;
      if (status === 401) {
        const { auth_rule: claimedKeyName, connection } = credential;
        this.#authFailures.add({ claimedKeyName, code, address, connection, detail });
      }
      channel.send('error', { status, code, detail }, helloId);
      channel.close();
      return nothing;
    }
    const login = new Login(facts, channel, clock);
    for (const old of this.#logins.all()) if (old.isSameInstance(facts)) this.#logins.forget(old, 'replaced');
    this.#logins.add(login);
    this.#links.adopt(login, facts.instanceSecret);
    channel.send(
      'hello',
      {
        version: 1,
        features: [],
        build: hello.build,
        role: 'relay',
        name: this.#options.node,
        namespace: this.#options.namespace,
        login_id: login.id,
        healthy: this.#fence.admits,
        tls_spki: this.#spki,
      },
      helloId,
    );
    const session = new LoginSession({
      login,
      channel,
      control,
      logins: this.#logins,
      links: this.#links,
      failures: this.#failures,
      endpoint: this.#endpoint,
      closedBecause: () => this.#gate.closedBecause(),
      refusedNow: (verified) => this.#gate.agentRefused(login) ?? this.#gate.refusedNow(verified),
      onLinkRefused: (from, connection, code, detail) => {
        this.#metrics.linkRefused(code);
        this.#refusals.add(from, connection, code, detail);
      },
      onRenewed: (renewed, held) => this.#evidence.loginRenewed(renewed, held.verified),
      clock,
      logger,
    });
    this.#sessions.set(login, session);
    session.attach(hello.handle ?? '', credential);
    this.#evidence.loginOpened(login, credential);
    // In the tick that registered it: a revocation is either in this list or told to it as to all others.
    this.#enforcement.catchUp(login, control.revocations.allInForce());
    return {
      onMessage: (message) => session.receive(message),
      onClose: () => {
        this.#sessions.delete(login);
        if (login.channel === channel) this.#logins.lost(login);
      },
    };
  }

  #forgotten(login: Login, reason: string): void {
    this.#sessions.delete(login);
    this.#evidence.loginClosed(login, reason);
  }

  #expired(held: HeldCredential): void {
    this.#links.cutWhere(
      (link) => link.gateway.credential === held || link.agent.credential === held,
      'token_expired',
    );
  }

  #connectionChanged(change: ConnectionChange): void {
    if (change.change === 'gone') {
      this.#gate.connectionGone(change.id);
      this.#links.cutWhere((link) => link.connectionId === change.id, 'connection_removed');
    }
    for (const login of this.#logins.all()) {
      const held = [...login.credentials.values()].filter(
        ({ verified }) => verified.connection_id === change.id,
      );
      if (held.length === 0) continue;
      if (change.change === 'set') {
        void this.#sessions.get(login)?.describe(change.name);
        continue;
      }
      login.channel?.send('connection.gone', { name: change.name });
      for (const credential of held) this.#logins.drop(login, credential, 'connection_removed');
    }
  }

  #settled(link: DataLink, reason: CloseReason, wasJoined: boolean): void {
    if (wasJoined) this.#metrics.linkClosed(reason, link.bytesUp, link.bytesDown);
    else this.#metrics.linkRefused(reason);
    this.#evidence.linkClosed(link, reason, wasJoined);
  }

  #closed(link: DataLink, reason: CloseReason): void {
    if (this.#notices.length === 0) queueMicrotask(() => this.#sendNotices());
    this.#notices.push({ link, reason });
    if (this.#links.size === 0) this.#onIdle?.();
  }

  /** After the tick that cut: all pipes first, then words. */
  #sendNotices(): void {
    for (const { link, reason } of this.#notices.splice(0)) {
      for (const { login } of [link.gateway, link.agent]) {
        login.channel?.send('link.closed', { link_id: link.id, reason });
      }
    }
  }

  #tick(): void {
    this.#ticks += 1;
    this.#links.tick();
    this.#workers.tick();
    const { admits } = this.#fence;
    const changed = admits !== this.#wasAdmitting;
    this.#wasAdmitting = admits;
    if (changed)
      this.#options.logger.warn({ admits }, admits ? 'control database is heard again' : 'node is fenced');
    if (changed || this.#ticks % HEALTH_EVERY_TICKS === 0) {
      for (const { channel } of this.#logins.connected()) channel?.send('health', { healthy: admits });
    }
    if (this.#fence.cuts) {
      const { publicHost } = this.#options;
      this.#links.cutWhere((link) => !link.agent.login.hearsHealthyNodeBesides(publicHost), 'node_fenced');
    }
  }
}
