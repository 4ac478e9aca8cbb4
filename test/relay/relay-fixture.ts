import { afterEach } from 'node:test';
import type { AuditEventInput } from '../../src/audit/index.ts';
import type {
  Acknowledgement,
  AdmissionRefusal,
  ConnectionChange,
  ConnectionRecord,
  Control,
  Enforcement,
  Revocation,
  VerifiedCredential,
  VerifyRequest,
} from '../../src/control/index.ts';
import {
  agentSubjectIds,
  connectionSubjectId,
  type RevocationSubject,
  subjectIdOf,
} from '../../src/identity/index.ts';
import {
  type CredentialSource,
  type LinkCertificate,
  type LinkOffer,
  type LoginHandlers,
  NodeLogin,
  type NodeLoginOptions,
  openDataLink,
  type RelayNodeConfig,
  type Side,
} from '../../src/protocol/index.ts';
import { RelayNode, type RelayNodeOptions } from '../../src/relay/relay-node.ts';
import {
  type Clock,
  createAuthority,
  createLinkCertificate,
  createRegistry,
  createServerCertificate,
  silentLogger,
  systemClock,
  uuidv7,
} from '../../src/runtime/index.ts';

const DEADLINE_MS = 15_000;

/** What a test opened, closed after it whatever its outcome. */
const opened: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
});

/** Rejects when it takes too long, so that a broken promise is red and not silent. */
const soon = <T>(what: string, promise: Promise<T>): Promise<T> => {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${DEADLINE_MS} ms`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

export const NAMESPACE = 'relay.test';
export const HOST = '127.0.0.1';
const HOUR_MS = 60 * 60 * 1000;

const authority = await createAuthority('test authority', systemClock);
const server = await createServerCertificate(authority, ['localhost', HOST], systemClock);
export const CA = authority.certPem;
export const TLS = { cert: server.certPem, key: server.keyPem };

export interface FakeKey {
  readonly keyId: string;
  readonly connection: string;
  readonly claims: readonly ('Listen' | 'Send')[];
  readonly slot?: 'primary' | 'secondary';
  expiresAtMs?: number;
}

/** The control database as the relay sees it, in memory: tokens are `key:<key id>`. */
export class FakeControl {
  readonly keys = new Map<string, FakeKey>();
  readonly connectionRecords = new Map<string, ConnectionRecord>();
  readonly revoked = new Map<string, Revocation>();
  readonly acknowledged: { readonly id: string; readonly ack: Acknowledgement }[] = [];
  readonly verifying: VerifyRequest[] = [];
  /** Awaited by every verification after its lookup: the place of the races. */
  gate: Promise<void> | undefined;
  heardAt: () => number;
  onAcknowledge: ((id: string, ack: Acknowledgement) => void) | undefined;
  #onRevoked: ((revocation: Revocation) => Enforcement | undefined)[] = [];
  #onChanged: ((change: ConnectionChange) => void)[] = [];

  constructor(clock: Clock) {
    this.heardAt = () => clock.monotonicMs();
  }

  readonly admission = {
    verify: async (token: string, request: VerifyRequest): Promise<VerifiedCredential | AdmissionRefusal> => {
      this.verifying.push(request);
      const refuse = (status: 401 | 403 | 404, code: AdmissionRefusal['code']): AdmissionRefusal => ({
        ok: false,
        status,
        code,
        detail: `refused with ${code}`,
        claimed_key_name: token.replace('key:', ''),
      });
      const key = this.keys.get(token);
      const revocation = key === undefined ? undefined : this.revoked.get(key.keyId);
      await this.gate;
      if (key === undefined) return refuse(401, 'not_authorized');
      if (revocation !== undefined) return refuse(401, 'key_revoked');
      if (!key.claims.includes(request.claim)) return refuse(403, 'claim_missing');
      const connection = this.connectionRecords.get(request.connection);
      if (connection === undefined || key.connection !== connection.name)
        return refuse(404, 'connection_unknown');
      return {
        ok: true,
        kind: 'sas',
        key_id: key.keyId,
        principal: `rule-${key.keyId}`,
        auth_rule: `rule-${key.keyId}`,
        slot: key.slot ?? 'primary',
        claims: key.claims,
        expires_at_ms: key.expiresAtMs ?? systemClock.nowMs() + HOUR_MS,
        connection_id: connection.id,
        connection: connection.name,
        scope: 'connection',
      };
    },
  };

  readonly connections = {
    get: async (name: string) => this.connectionRecords.get(name),
    list: async () => [...this.connectionRecords.values()],
  };

  readonly revocations: Control['revocations'] = {
    start: () => undefined,
    stop: async () => undefined,
    firstSync: Promise.resolve(),
    isRevoked: (keyId) => this.revoked.get(keyId),
    isAgentRevoked: (name, instance) =>
      agentSubjectIds(name, instance)
        .map((id) => this.revoked.get(id))
        .find((found) => found !== undefined),
    isConnectionRemoved: (id) => this.revoked.get(connectionSubjectId(id)),
    allInForce: () => [...this.revoked.values()],
    onRevoked: (call) => {
      this.#onRevoked.push(call);
    },
    onConnectionChanged: (call) => {
      this.#onChanged.push(call);
    },
    lastHeardMonotonicMs: () => this.heardAt(),
    acknowledge: (id, ack) => {
      this.acknowledged.push({ id, ack });
      this.onAcknowledge?.(id, ack);
    },
  };

  addConnection(name: string): void {
    const now = new Date(0);
    this.connectionRecords.set(name, {
      id: `id-${name}`,
      name,
      target: { host: 'db.test', port: 5432 },
      labels: { tier: 'test' },
      version: 1,
      createdAt: now,
      updatedAt: now,
    });
  }

  addKey(keyId: string, connection: string, claims: readonly ('Listen' | 'Send')[]): void {
    this.keys.set(`key:${keyId}`, { keyId, connection, claims });
  }

  revoke(keyId: string): Revocation {
    return this.end({ key_id: keyId }, 'key_revoked');
  }

  /** Revokes a key, an agent or a connection. */
  end(subject: Partial<RevocationSubject>, kind: Revocation['kind']): Revocation {
    const whole = { key_id: null, agent: null, instance: null, connection_id: null, ...subject };
    const id = subjectIdOf(whole);
    const revocation: Revocation = { ...whole, revocation_id: `r-${id}`, kind, reason: 'test' };
    this.revoked.set(id, revocation);
    for (const call of this.#onRevoked) call(revocation);
    return revocation;
  }

  change(change: ConnectionChange): void {
    if (change.change === 'gone') this.connectionRecords.delete(change.name);
    for (const call of this.#onChanged) call(change);
  }
}

/** Events as they are noted; `until` resolves with the first that matches. */
export class FakeAudit {
  readonly events: AuditEventInput[] = [];
  #waiting: { matches: (event: AuditEventInput) => boolean; resolve: (event: AuditEventInput) => void }[] =
    [];

  note(event: AuditEventInput): void {
    this.events.push(event);
    for (const waiting of this.#waiting) if (waiting.matches(event)) waiting.resolve(event);
  }

  of(type: AuditEventInput['type']): AuditEventInput[] {
    return this.events.filter((event) => event.type === type);
  }

  until(matches: (event: AuditEventInput) => boolean): Promise<AuditEventInput> {
    const found = this.events.find(matches);
    if (found !== undefined) return Promise.resolve(found);
    return soon('event', new Promise((resolve) => this.#waiting.push({ matches, resolve })));
  }
}

export const credential = (keyId: string, connection: string): CredentialSource => ({
  handle: `h-${keyId}`,
  connection,
  keyName: keyId,
  mint: (nowMs) => ({ token: `key:${keyId}`, expiresAtMs: nowMs + HOUR_MS }),
});

type Handler = Extract<keyof LoginHandlers, `on${string}`>;

/** A login whose events can be awaited, each by the name of its handler. */
export class TestLogin {
  readonly login: NodeLogin;
  readonly heard: { readonly name: Handler; readonly value: unknown }[] = [];
  readonly instance: string;
  #waiting: { name: Handler; matches: (value: never) => boolean; resolve: (value: never) => void }[] = [];

  constructor(
    node: RelayNodeConfig,
    role: Side,
    name: string,
    credentials: readonly CredentialSource[],
    options: {
      instance?: string;
      secret?: string;
      handlers?: LoginHandlers;
      namespace?: string;
      ca?: string;
      clock?: Clock;
      carriers?: NodeLoginOptions['carriers'];
    } = {},
  ) {
    this.instance = options.instance ?? uuidv7();
    opened.push(() => this.login.close());
    const hear =
      (event: Handler) =>
      (value?: unknown): void => {
        this.#hear(event, value);
      };
    this.login = new NodeLogin({
      node,
      role,
      name,
      instance: this.instance,
      instanceSecret: options.secret ?? `secret of ${this.instance}`,
      build: 'test',
      namespace: options.namespace ?? NAMESPACE,
      ca: options.ca ?? CA,
      carriers: options.carriers,
      clock: options.clock ?? systemClock,
      logger: silentLogger,
      credentials,
      handlers: {
        onUp: hear('onUp'),
        onDown: hear('onDown'),
        onAttached: hear('onAttached'),
        onCredentialRefused: hear('onCredentialRefused'),
        onConnection: hear('onConnection'),
        onConnectionGone: hear('onConnectionGone'),
        onOffer: hear('onOffer'),
        onLinkClosed: hear('onLinkClosed'),
        onGoAway: hear('onGoAway'),
        onNodeHealth: hear('onNodeHealth'),
        onRevoked: (notice) => {
          this.#hear('onRevoked', notice);
          return { links: 1, streams: 3 };
        },
        ...options.handlers,
      },
    });
  }

  /** The first value that was or will be heard and matches. */
  until<H extends Handler>(
    name: H,
    matches: (value: Parameters<NonNullable<LoginHandlers[H]>>[0]) => boolean = () => true,
  ): Promise<Parameters<NonNullable<LoginHandlers[H]>>[0]> {
    const found = this.heard.find((event) => event.name === name && matches(event.value as never));
    if (found !== undefined) return Promise.resolve(found.value as never);
    return soon(name, new Promise((resolve) => this.#waiting.push({ name, matches, resolve })));
  }

  #hear(name: Handler, value: unknown): void {
    this.heard.push({ name, value });
    for (const waiting of this.#waiting) {
      if (waiting.name === name && waiting.matches(value as never)) waiting.resolve(value as never);
    }
  }
}

export interface Relay {
  readonly node: RelayNode;
  readonly control: FakeControl;
  readonly audit: FakeAudit;
  readonly config: RelayNodeConfig;
  readonly port: number;
}

/** A relay node on a free port with connection `db`, keys `k_send`, `k_send2` and `k_listen`. */
export const startRelayNode = async (
  options: Partial<RelayNodeOptions> & { clock?: Clock } = {},
): Promise<Relay> => {
  const clock = options.clock ?? systemClock;
  const control = new FakeControl(clock);
  const audit = new FakeAudit();
  control.addConnection('db');
  control.addKey('k_send', 'db', ['Send']);
  control.addKey('k_send2', 'db', ['Send']);
  control.addKey('k_listen', 'db', ['Listen']);
  const node = new RelayNode({
    namespace: NAMESPACE,
    node: 'node-1',
    publicHost: HOST,
    listen: [`${HOST}:0`],
    tls: TLS,
    control,
    audit,
    registry: createRegistry('relay'),
    clock,
    logger: silentLogger,
    ...options,
  });
  opened.push(() => node.close());
  const [bound = ''] = await node.listen();
  const port = Number(bound.split(':').at(-1));
  return { node, control, audit, port, config: { host: HOST, control_port: port, data_ports: [port] } };
};

/** How a side comes to the node. */
export type Way = Pick<Relay, 'config'> & Pick<NodeLoginOptions, 'carriers' | 'revocation'>;

export const openSide = async (
  side: Side,
  relay: Way,
  offer: LinkOffer,
  certificate: LinkCertificate,
  own: { readonly name: string; readonly instance: string },
) => {
  const abort = new AbortController();
  opened.push(() => abort.abort());
  const peer = await openDataLink({
    side,
    offer,
    node: relay.config,
    ca: CA,
    carriers: relay.carriers,
    revocation: relay.revocation,
    certificate,
    own: { ...own, namespace: NAMESPACE, build: 'test' },
    clock: systemClock,
    logger: silentLogger,
    signal: abort.signal,
  });
  opened.push(() => {
    peer.duplex.destroy();
    peer.raw.destroy();
  });
  return peer;
};

/** One agent that publishes `db` and one gateway, both logged in. */
export const startEnds = async (
  relay: Relay,
  sendKey = 'k_send',
  carriers: Partial<Record<Side, NodeLoginOptions['carriers']>> = {},
) => {
  const agentCertificate = await createLinkCertificate('agent-1', systemClock);
  const gatewayCertificate = await createLinkCertificate('gateway-1', systemClock);
  const agent = new TestLogin(relay.config, 'agent', 'agent-1', [credential('k_listen', 'db')], {
    carriers: carriers.agent,
  });
  const gateway = new TestLogin(relay.config, 'gateway', 'gateway-1', [credential(sendKey, 'db')], {
    carriers: carriers.gateway,
  });
  agent.login.start();
  gateway.login.start();
  await agent.until('onAttached');
  const { cred } = await gateway.until('onAttached');
  await agent.login.publish('db', 'h-k_listen', agentCertificate.spki);
  return { agent, gateway, agentCertificate, gatewayCertificate, cred };
};

export type Ends = Awaited<ReturnType<typeof startEnds>>;

/** Asks for a link and opens both sides of it, each by the way that `sides` gives it. */
export const openLink = async (
  relay: Pick<Relay, 'config'>,
  ends: Ends,
  sides: Readonly<Record<Side, Way>> = { gateway: relay, agent: relay },
) => {
  const offer = await ends.gateway.login.requestLink({
    cred: ends.cred,
    connection: 'db',
    spki: ends.gatewayCertificate.spki,
    exclude: [],
  });
  if ('refused' in offer) throw new Error(`link refused: ${offer.code} ${offer.detail}`);
  const agentOffer = await ends.agent.until('onOffer', ({ link_id }) => link_id === offer.link_id);
  const [gatewayPeer, agentPeer] = await Promise.all([
    openSide('gateway', sides.gateway, offer, ends.gatewayCertificate, {
      name: 'gateway-1',
      instance: ends.gateway.instance,
    }),
    openSide('agent', sides.agent, agentOffer, ends.agentCertificate, {
      name: 'agent-1',
      instance: ends.agent.instance,
    }),
  ]);
  return { offer, agentOffer, gatewayPeer, agentPeer };
};

export const closeAll = async (relay: Relay, ...logins: TestLogin[]): Promise<void> => {
  await Promise.all(logins.map(({ login }) => login.close()));
  await relay.node.close();
};
