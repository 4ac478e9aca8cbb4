import type { Socket } from 'node:net';
import type { Scheduler } from 'fast-check';
import { Registry } from 'prom-client';
import type { WebSocket } from 'ws';
import { Connector as AgentConnector } from '../../src/agent/connector.ts';
import { DenialGate } from '../../src/agent/denial-gate.ts';
import { FailureLog as AgentFailures } from '../../src/agent/failures.ts';
import { Keeper } from '../../src/agent/keeper.ts';
import { LiveStreams } from '../../src/agent/live-streams.ts';
import { policyTimeIn } from '../../src/agent/local-time.ts';
import { agentMetrics } from '../../src/agent/metrics.ts';
import { Opener } from '../../src/agent/opener.ts';
import type { PolicyPort } from '../../src/agent/policy-port.ts';
import { Publisher } from '../../src/agent/publisher.ts';
import { Resolver } from '../../src/agent/resolver.ts';
import { RevocationSet as AgentRevocations } from '../../src/agent/revocations.ts';
import { SlotTable } from '../../src/agent/slots.ts';
import { createAdmission } from '../../src/control/admission.ts';
import type { Control, Revocation, VerifiedCredential } from '../../src/control/index.ts';
import type { KeyCache, ScopeEntry } from '../../src/control/key-cache.ts';
import { RevocationSet } from '../../src/control/revocation-set.ts';
import { AppStreams } from '../../src/gateway/app-streams.ts';
import { plainApplication } from '../../src/gateway/application.ts';
import { Connector as GatewayConnector } from '../../src/gateway/connector.ts';
import { FailureLog as GatewayFailures } from '../../src/gateway/failures.ts';
import { gatewayMetrics } from '../../src/gateway/metrics.ts';
import { PinnedTargets } from '../../src/gateway/pinned-targets.ts';
import { formatConnectionString, keyIdOf, newKeyText, sasCredential } from '../../src/identity/index.ts';
import {
  AuthenticatedPeer,
  ControlChannel,
  type ControlMessage,
  type DataLinkOptions,
  LinkError,
  type NodeLoginOptions,
} from '../../src/protocol/index.ts';
import { ManagedSettings } from '../../src/policy/index.ts';
import { RelayNode } from '../../src/relay/relay-node.ts';
import { silentLogger, TimerWheel, uuidv7 } from '../../src/runtime/index.ts';
import { allow } from '../agent/harness.ts';
import { helloOf } from '../protocol/session/support.ts';
import { TLS } from '../relay/relay-fixture.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { type MemorySocket, memorySockets } from '../support/memory-socket.ts';
import { MemoryLogin, type MemoryWebSocket, type Wires } from './memory-login.ts';

const NAMESPACE = 'relay.test';
const NODE = { host: 'node.test', control_port: 443, data_ports: [443] };
const CONNECTION = 'db';
const TARGET = { host: 'target.test', port: 5_432 };
const ADDRESS = '10.1.2.3';
/** Fingerprints; nobody compares them where there is no TLS. */
const SPKI = { agent: 'a'.repeat(64), gateway: 'b'.repeat(64) } as const;
/** A side looks so often for the other's HELLO before it gives up; there is no time in this world. */
const HELLO_LOOKS = 100;

/** Who hears of the revocation; each alone has to end everything. */
export type Enforcer = 'relay' | 'agent' | 'gateway' | 'all';

const keyOf = (keyName: string, text: string) => {
  const parts = { host: NAMESPACE, keyName, key: text, entityPath: CONNECTION };
  return { id: keyIdOf(text), text, credential: sasCredential(formatConnectionString(parts)) };
};
const KEYS = {
  sender: keyOf('defaultSender', newKeyText()),
  listener: keyOf('defaultListener', newKeyText()),
};
export const KEY_IDS = { sender: KEYS.sender.id, listener: KEYS.listener.id };

/**
 * Relay node, admission, agent and gateway as they are, over wires of memory. Every await that in life waits for a
 * network, a disk, a database or a worker waits for the scheduler, which is the only one to choose an order.
 */
export class MemoryWorld implements Wires {
  readonly clock = new ManualClock();
  readonly carriers: MemorySocket[] = [];
  readonly apps: MemorySocket[] = [];
  readonly targets: MemorySocket[] = [];
  readonly #scheduler: Scheduler;
  readonly #enforcer: Enforcer;
  readonly #set = new RevocationSet(this.clock, silentLogger, () => undefined);
  readonly #admission: Control['admission'];
  readonly #relay: RelayNode;
  readonly #wheel = new TimerWheel(this.clock);
  readonly #logins = new Map<'agent' | 'gateway', { login: MemoryLogin; options: NodeLoginOptions }>();
  readonly #agentStreams = new LiveStreams();
  readonly #agent: AgentConnector;
  readonly #gateway: GatewayConnector;
  readonly #appStreams: AppStreams;
  #isPublished = false;

  constructor(scheduler: Scheduler, enforcer: Enforcer, stateDirectory: string) {
    this.#scheduler = scheduler;
    this.#enforcer = enforcer;
    const revocations: Control['revocations'] = {
      start: () => undefined,
      stop: () => Promise.resolve(),
      firstSync: Promise.resolve(),
      isRevoked: (keyId) => this.#set.inForce(keyId),
      isAgentRevoked: () => undefined,
      isConnectionRemoved: () => undefined,
      allInForce: () => this.#set.allInForce(),
      onRevoked: (call) => this.#set.onRevoked(call),
      onConnectionChanged: () => undefined,
      lastHeardMonotonicMs: () => this.clock.monotonicMs(),
      acknowledge: () => undefined,
    };
    const admission = createAdmission({
      // The keys as they were before the revocation: a read that it overtakes shows them so.
      cache: {
        get: async () => {
          await this.step('keys are read');
          return SCOPE;
        },
        refreshed: () => Promise.resolve(undefined),
      } as unknown as KeyCache,
      revocations,
      usage: { note: () => undefined },
      hosts: [NAMESPACE],
      unavailableBecause: () => undefined,
      clock: this.clock,
      logger: silentLogger,
    });
    this.#admission = {
      // Whoever is told that a credential is good may be told late, and has to look again.
      verify: async (token, request) => {
        const verdict = await admission.verify(token, request);
        await this.step('verdict comes');
        return verdict;
      },
    };
    this.#relay = new RelayNode({
      namespace: NAMESPACE,
      node: 'node-1',
      publicHost: NODE.host,
      listen: [],
      tls: TLS,
      control: {
        admission: this.#admission,
        connections: { get: () => Promise.resolve(RECORD), list: () => Promise.resolve([RECORD]) },
        revocations,
      },
      audit: { note: () => undefined },
      registry: new Registry(),
      clock: this.clock,
      logger: silentLogger,
    });
    this.#agent = this.#makeAgent(stateDirectory);
    const wheel = this.#wheel;
    const gatewayFailures = new GatewayFailures(() => undefined);
    const metrics = gatewayMetrics(new Registry(), {
      streams: () => 0,
      waiting: () => 0,
      links: () => [],
      logins: () => [],
      handshakes: () => 0,
      linkRttMs: () => undefined,
      creditStalls: () => 0,
    });
    const shared = { clock: this.clock, wheel, logger: silentLogger, metrics };
    this.#appStreams = new AppStreams({
      ...shared,
      failures: gatewayFailures,
      maxStreams: () => 100,
      openTimeoutMs: () => 60_000,
    });
    this.#gateway = new GatewayConnector({
      ...shared,
      own: { name: 'gateway-1', instance: 'g1', namespace: NAMESPACE, build: 'test' },
      instanceSecret: 'gateway secret',
      relays: [NODE],
      ca: undefined,
      caFile: undefined,
      pools: [{ credential: KEYS.sender.credential, connection: CONNECTION, isEager: false }],
      pins: new PinnedTargets(new Map()),
      certificate: { spki: SPKI.gateway } as never,
      maxLinks: () => 100,
      health: () => ({}),
      login: (options) => this.#login('gateway', options),
      openLink: (options) => this.#openLink(options),
    });
  }

  /** Waits until the scheduler chooses this. */
  step(label: string): Promise<void> {
    return this.#scheduler.schedule(Promise.resolve(), label);
  }

  /** Whether a message never arrives: the relay alone enforces, and its words are lost. */
  loses(text: string): boolean {
    return this.#enforcer === 'relay' && /"t":"(?:revoked|link\.closed|detach)"/.test(text);
  }

  start(): void {
    this.#agent.start();
    this.#gateway.start();
  }

  /** Applications come and keys are renewed once there is somebody to serve them. */
  onPublished(): void {
    if (this.#isPublished) return;
    this.#isPublished = true;
    for (const { login } of this.#logins.values()) {
      void this.step('renewal is due').then(() => login.renew());
      void this.step('one more attach').then(() => login.attachAgain());
    }
    for (let app = 0; app < 2; app += 1)
      void this.step('application connects').then(() => this.#connectApp());
  }

  /** The revocation, where it is heard. */
  revoke(keyId: string): void {
    const revocation: Revocation = {
      revocation_id: uuidv7(),
      key_id: keyId,
      agent: null,
      instance: null,
      connection_id: null,
      kind: 'key_revoked',
      reason: '',
    };
    if (this.#enforcer === 'relay' || this.#enforcer === 'all') {
      this.#set.add([
        {
          ...revocation,
          connection: CONNECTION,
          auth_rule: 'rule',
          slot: 'primary',
          actor: 'test',
          created_at: '',
          effective_at: '',
          wait_ms: 0,
        },
      ]);
      return;
    }
    // Another node tells it; this one has not heard.
    const { handlers } = this.#logins.get(this.#enforcer)?.options ?? {};
    handlers?.onRevoked?.({
      key_id: keyId,
      reason: revocation.kind,
      revocation_id: revocation.revocation_id,
    });
  }

  /** Streams whose target has been reached, and those among them that live. */
  get streams(): { readonly reached: number; readonly live: number } {
    return { reached: this.targets.length, live: this.targets.filter(({ destroyed }) => !destroyed).length };
  }

  /** What still lives although a key of all of it is revoked; empty when nothing does. */
  survivors(keyId: string): string[] {
    const found: string[] = [];
    const count = (what: string, n: number): void => {
      if (n > 0) found.push(`${n} ${what}`);
    };
    const isLive = ({ destroyed }: MemorySocket): boolean => !destroyed;
    count('carriers', this.carriers.filter(isLive).length);
    count('target sockets', this.targets.filter(isLive).length);
    // Who waits for a link has no stream, and is reset at its open timeout: here time stands still.
    const waiting = this.#gateway.pools.reduce((sum, pool) => sum + pool.waitingCount, 0);
    count('application sockets', this.apps.filter(isLive).length - waiting);
    count('links at the relay', this.#relay.live.links().length);
    count('links at the agent', this.#agent.links.length);
    count('links at the gateway', this.#gateway.links.length);
    count('streams at the agent', this.#agentStreams.count);
    count('streams at the gateway', this.#appStreams.count - waiting);
    if (this.#enforcer === 'relay' || this.#enforcer === 'all') {
      const held = this.#relay.live.logins().flatMap(({ credentials }) => credentials);
      count('credentials', held.filter(({ key_id }) => key_id === keyId).length);
    }
    return found;
  }

  async close(): Promise<void> {
    this.#appStreams.cutAll('gateway_shutdown');
    await this.#gateway.close();
    await this.#agent.close();
    await this.#relay.close();
    this.#wheel.close();
  }

  verify(token: string, role: 'agent' | 'gateway'): ReturnType<Control['admission']['verify']> {
    return this.#admission.verify(token, {
      connection: CONNECTION,
      claim: role === 'agent' ? 'Listen' : 'Send',
    });
  }

  channel(
    socket: MemoryWebSocket,
    onMessage: (message: ControlMessage) => void,
    onClose = (): void => undefined,
  ) {
    return new ControlChannel({
      socket: socket as unknown as WebSocket,
      clock: this.clock,
      logger: silentLogger,
      onMessage,
      onClose,
    });
  }

  /** The relay's side of a control link after the upgrade, as its endpoint has it. */
  serve(socket: MemoryWebSocket, credential: VerifiedCredential, role: 'agent' | 'gateway'): void {
    let bound: ReturnType<RelayNode['arrived']> | undefined;
    const channel = this.channel(
      socket,
      (message) => {
        if (bound !== undefined) bound.onMessage(message);
        else if (message.t === 'hello') {
          const hello = { hello: message.body, helloId: message.id };
          bound = this.#relay.arrived({ channel, credential, ...hello, role, address: undefined });
        }
      },
      () => bound?.onClose('closed'),
    );
  }

  #login(role: 'agent' | 'gateway', options: NodeLoginOptions): MemoryLogin {
    const login = new MemoryLogin(this, options);
    this.#logins.set(role, { login, options });
    return login;
  }

  #connectApp(): void {
    const { near, far } = memorySockets();
    this.apps.push(far);
    far.resume();
    const [pool] = this.#gateway.pools;
    if (pool === undefined) return;
    this.#appStreams.accept(plainApplication(near.pause() as unknown as Socket), pool);
  }

  /** A carrier to the relay and, once both sides are joined there, the peer; TLS is left out. */
  async #openLink({ side, offer }: DataLinkOptions): Promise<AuthenticatedPeer> {
    await this.step(`${side} dials`);
    const { near, far } = memorySockets();
    this.carriers.push(near);
    this.#relay.carrierArrived(side, offer.token, far.pause(), Buffer.alloc(0));
    const state = (): string | undefined =>
      this.#relay.live.links().find(({ link_id }) => link_id === offer.link_id)?.state;
    for (let looks = 0; looks < HELLO_LOOKS; looks += 1) {
      await this.step(`${side} looks for a hello`);
      if (near.destroyed || state() === undefined) break;
      if (state() !== 'joined') continue;
      const role = side === 'agent' ? 'gateway' : 'agent';
      const hellos = { ownHello: helloOf(side), peerHello: helloOf(role) };
      const carrier = { carrier: 'tcp', duplex: near.pause(), raw: near, leftover: Buffer.alloc(0) };
      const counted = { port: NODE.control_port, bytesBefore: { read: 0, written: 0 } };
      const spkis = { ownSpki: SPKI[side], peerSpki: SPKI[role] };
      return Object.assign(Object.create(AuthenticatedPeer.prototype) as AuthenticatedPeer, {
        ...{ side, offer, ...hellos, ...carrier, ...counted, ...spkis },
      });
    }
    near.destroy();
    throw new LinkError('ERR_LINK_LOST', 'hello', 'link_failed', 'no hello came');
  }

  #makeAgent(stateDirectory: string): AgentConnector {
    const { clock } = this;
    const wheel = this.#wheel;
    const agent = { name: 'agent-1', instance: 'a1', labels: {}, version: 'test' };
    const revocations = new AgentRevocations(stateDirectory, clock, silentLogger);
    const resolver = new Resolver(clock, async () => {
      await this.step('name is resolved');
      return [ADDRESS];
    });
    const policy: PolicyPort = {
      generation: 1,
      decide: async (base) => {
        await this.step(`${base.action} is decided`);
        return allow(base, 1);
      },
    };
    let recorded = 0;
    const audit = {
      note: () => undefined,
      record: async () => {
        await this.step('decision is recorded');
        recorded += 1;
        return { event_id: `e${recorded}`, seq: recorded };
      },
    };
    const time = policyTimeIn('UTC');
    const now = () => ({ time: time(clock.nowMs()), managed: { require_proof: false } });
    const metrics = agentMetrics(new Registry(), {
      streams: () => 0,
      openings: () => 0,
      links: () => [],
      logins: () => [],
      linkRttMs: () => undefined,
      creditStalls: () => 0,
      decisionQueue: () => 0,
      targets: () => [],
      isBundleHeld: () => false,
      shadowState: () => 'off',
      bundleAgeMs: () => 0,
      audit: () => ({ spoolBytes: 0, oldestSeconds: 0, dropped: 0, shareRefusals: 0, noteFailures: 0 }),
    });
    const shared = { clock, wheel, logger: silentLogger, audit };
    const publisher = new Publisher({
      ...shared,
      namespace: NAMESPACE,
      agent,
      spki: SPKI.agent,
      policy,
      resolver,
      now,
      usage: () => ({ connection: { streams: 0 }, agent: { streams: 0 } }),
      pinned: () => undefined,
      revoked: (credential) => revocations.reasonFor(credential.key_id),
      port: () => this.#logins.get('agent')?.login,
      onOffered: () => undefined,
      onDecided: () => undefined,
    });
    const opener = new Opener({
      ...shared,
      agentName: agent.name,
      resolver,
      slots: new SlotTable({ agent: 100, principal: undefined, connection: undefined }),
      streams: this.#agentStreams,
      keeper: new Keeper(clock, wheel, () => undefined),
      policy,
      connect: () => this.#dialTarget(),
      failures: new AgentFailures(),
      targets: { reached: () => undefined, failed: () => undefined },
      metrics,
      denials: new DenialGate(clock),
      limits: () => ({ openTimeoutMs: 60_000, connectTimeoutMs: 60_000 }),
      guard: () => ({ allowLoopbackPorts: new Set(), ownListeners: [], allowAuditDatabase: false }),
      now,
      managed: () => ManagedSettings.absent,
      barred: () => undefined,
      onDecided: () => undefined,
    });
    return new AgentConnector({
      ...shared,
      namespace: NAMESPACE,
      agent,
      own: { name: agent.name, instance: agent.instance, namespace: NAMESPACE, build: 'test' },
      instanceSecret: 'agent secret',
      relays: [NODE],
      ca: undefined,
      caFile: undefined,
      credentials: [KEYS.listener.credential],
      certificate: { spki: SPKI.agent } as never,
      maxLinks: () => 100,
      revocations,
      publisher,
      streams: this.#agentStreams,
      metrics,
      barred: () => undefined,
      managed: () => undefined,
      open: (incoming, link) => opener.open(incoming, link),
      health: () => ({}),
      login: (options) => this.#login('agent', options),
      openLink: (options) => this.#openLink(options),
    });
  }

  #dialTarget(): Socket {
    const { near, far } = memorySockets();
    void this.step('target answers').then(() => {
      if (near.destroyed) return;
      this.targets.push(far);
      far.resume();
      near.emit('connect');
    });
    return near as unknown as Socket;
  }
}

const RECORD = {
  id: 'id-db',
  name: CONNECTION,
  target: TARGET,
  labels: {},
  version: 1,
  createdAt: new Date(0),
  updatedAt: new Date(0),
};

const SCOPE: ScopeEntry = {
  connection: RECORD,
  connectionKeys: (['sender', 'listener'] as const).map((which) => ({
    authRule: KEYS[which].credential.keyName,
    keyId: KEYS[which].id,
    slot: 'primary',
    state: 'active',
    claims: [which === 'sender' ? 'Send' : 'Listen'],
    text: KEYS[which].text,
  })),
  namespaceKeys: [],
};
