import { EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import { Registry } from 'prom-client';
import { DenialGate } from '../../src/agent/denial-gate.ts';
import type { Connect } from '../../src/agent/dialler.ts';
import { FailureLog } from '../../src/agent/failures.ts';
import { Keeper } from '../../src/agent/keeper.ts';
import { type LiveStream, LiveStreams } from '../../src/agent/live-streams.ts';
import { policyTimeIn } from '../../src/agent/local-time.ts';
import { agentMetrics } from '../../src/agent/metrics.ts';
import { Opener } from '../../src/agent/opener.ts';
import type { PolicyPort } from '../../src/agent/policy-port.ts';
import { type Lookup, Resolver } from '../../src/agent/resolver.ts';
import { type SlotLimits, SlotTable } from '../../src/agent/slots.ts';
import { TargetHealth } from '../../src/agent/target-health.ts';
import type { StreamLink } from '../../src/agent/stream-link.ts';
import type { AuditEventInput, Recorded } from '../../src/audit/index.ts';
import {
  type Decision,
  type GuardSettings,
  ManagedSettings,
  type PolicyInputBase,
} from '../../src/policy/index.ts';
import type { IncomingOpen, OpenMeta, PartyKey, SessionStream, StreamEnd } from '../../src/protocol/index.ts';
import { type CloseReason, silentLogger, TimerWheel } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';

export const ADDRESS = '10.1.2.3';
export const PORT = 5432;

const key = (id: string, claims: PartyKey['claims']): PartyKey => ({
  kind: 'sas',
  id,
  principal: id === 'k_sender' ? 'orders-app' : 'orders-agent',
  auth_rule: 'rule',
  slot: 'primary',
  claims,
  proved_by: 'relay',
});

export const sender = key('k_sender', ['Send']);
export const listener = key('k_listener', ['Listen']);

/** What happened, in order; tests assert on it. */
export class Trace extends EventEmitter {
  readonly lines: string[] = [];

  add(line: string): void {
    this.lines.push(line);
    this.emit('line', line);
  }

  /** Resolves when a line begins so; the test runner's own timeout is the deadline. */
  async until(start: string): Promise<void> {
    while (!this.lines.some((line) => line.startsWith(start))) await once(this, 'line');
  }
}

export class FakeIncoming implements IncomingOpen {
  readonly number = 1;
  readonly meta: OpenMeta;
  readonly trace: Trace;
  aborted = false;
  onEnd: ((end: StreamEnd) => void) | undefined;
  refusal: { code: CloseReason; movable: boolean; decision_id?: string } | undefined;
  session: (SessionStream & { bytesUp: number; bytesDown: number }) | undefined;
  #onAbort: ((reason: CloseReason) => void) | undefined;

  constructor(trace: Trace, meta: Partial<OpenMeta> = {}) {
    this.trace = trace;
    this.meta = { id: 'stream-1', attempt: 1, kind: 'tcp', claimed: {}, ext: {}, ...meta };
  }

  onAbort(call: (reason: CloseReason) => void): void {
    this.#onAbort = call;
  }

  abort(reason: CloseReason): void {
    this.aborted = true;
    this.#onAbort?.(reason);
  }

  accept(socket: Socket, info: { decision_id: string }, onEnd: (end: StreamEnd) => void): SessionStream {
    this.onEnd = onEnd;
    this.trace.add(`accept ${info.decision_id}`);
    this.session = {
      number: this.number,
      id: this.meta.id,
      bytesUp: 0,
      bytesDown: 0,
      reset: (reason) => {
        socket.destroy();
        this.end(reason);
      },
    };
    return this.session;
  }

  refuse(code: CloseReason, info: { movable: boolean; decision_id?: string }): void {
    this.refusal = { code, ...info };
    this.trace.add(`refuse ${code}`);
  }

  end(reason: CloseReason, linkEnded = false): void {
    this.onEnd?.({
      reason,
      reasonNumber: 0,
      bytesUp: this.session?.bytesUp ?? 0,
      bytesDown: this.session?.bytesDown ?? 0,
      openedMs: 0,
      durationMs: 5,
      linkEnded,
    });
  }
}

/** A socket that connects when it is told to. */
export class FakeSocket extends EventEmitter {
  destroyed = false;

  pause(): this {
    return this;
  }

  destroy(): this {
    this.destroyed = true;
    return this;
  }
}

export interface Harness {
  readonly clock: ManualClock;
  readonly wheel: TimerWheel;
  readonly trace: Trace;
  readonly opener: Opener;
  readonly slots: SlotTable;
  readonly streams: LiveStreams;
  readonly keeper: Keeper;
  readonly failures: FailureLog;
  readonly targets: TargetHealth;
  readonly link: StreamLink & { barredBy: CloseReason | undefined; end(reason: CloseReason): void };
  readonly events: AuditEventInput[];
  readonly rechecks: LiveStream[];
  readonly policy: { generation: number; answer: (base: PolicyInputBase) => Promise<Decision> };
  readonly audit: { record: (event: AuditEventInput) => Promise<Recorded> };
  readonly guard: { -readonly [Key in keyof GuardSettings]: GuardSettings[Key] };
  readonly sockets: FakeSocket[];
  managed: ManagedSettings;
  /** Sockets connect by themselves, in a later turn. */
  isReachable: boolean;
  barredBy: CloseReason | undefined;
}

export const allow = (
  base: PolicyInputBase,
  generation: number,
  changes: Partial<Decision> = {},
): Decision => ({
  allow: true,
  decided_by: 'policy',
  reason: undefined,
  rule: 'orders',
  rules: { publish: ['p'], stream: ['orders'] },
  reasons: [{ code: 'allowed_by', args: { rule: 'orders' } }],
  obligations: { recheck_seconds: 60 },
  recheck_at: null,
  allowed_addresses: base.target.addresses,
  candidates: base.target.addresses.map((address) => ({ address, verdict: 'allowed', reasons: [] })),
  input: JSON.stringify(base),
  generation,
  eval_us: 40,
  ...changes,
});

export const deny = (base: PolicyInputBase, generation: number, changes: Partial<Decision> = {}): Decision =>
  allow(base, generation, {
    allow: false,
    reason: 'policy_denied',
    rule: null,
    rules: { publish: [], stream: [] },
    reasons: [{ code: 'no_rule', args: {} }],
    allowed_addresses: [],
    ...changes,
  });

export interface HarnessOptions {
  readonly lookup?: Lookup;
  readonly limits?: Partial<SlotLimits>;
  readonly host?: string;
}

export const makeHarness = (options: HarnessOptions = {}): Harness => {
  const clock = new ManualClock();
  const wheel = new TimerWheel(clock);
  const trace = new Trace();
  const streams = new LiveStreams();
  const failures = new FailureLog();
  const targets = new TargetHealth(clock, silentLogger);
  const events: AuditEventInput[] = [];
  const rechecks: LiveStream[] = [];
  const sockets: FakeSocket[] = [];
  const slots = new SlotTable({ agent: 100, principal: undefined, connection: undefined, ...options.limits });
  const keeper = new Keeper(clock, wheel, (stream) => rechecks.push(stream));
  const waiting: ((reason: CloseReason) => void)[] = [];
  const link: Harness['link'] = {
    id: 'link-1',
    offer: {
      link_id: 'link-1',
      token: '00',
      node: 'relay.test',
      connection: 'orders-db',
      connection_id: 'c1',
      peer: { spki: '', name: 'gw', instance: 'g1' },
      sender,
      listener,
      gateway: 'gw',
      agent: 'agent-1',
    },
    input: {
      namespace: 'ns',
      connection: { name: 'orders-db', id: 'c1', labels: {} },
      key: sender,
      listener,
      agent: { name: 'agent-1', instance: 'a1', labels: {}, version: '0' },
      relay: { node: 'relay.test' },
      link: { id: 'link-1', carrier: 'tcp' },
    },
    source: { gateway: 'gw', gateway_proved: false },
    subject: { connection: 'orders-db', link_id: 'link-1' },
    slotPrincipal: 'orders-db/orders-app',
    barredBy: undefined,
    target: () => ({ host: options.host ?? ADDRESS, port: PORT }),
    barred: () => link.barredBy,
    whenEndKnown: (call) => waiting.push(call),
    end: (reason) => {
      for (const call of waiting.splice(0)) call(reason);
    },
  };
  const policy: Harness['policy'] = {
    generation: 1,
    answer: (base) => Promise.resolve(allow(base, policy.generation)),
  };
  const port: PolicyPort = {
    get generation() {
      return policy.generation;
    },
    decide: (base) => {
      trace.add('decide');
      return policy.answer(base);
    },
  };
  let recorded = 0;
  const audit: Harness['audit'] = {
    record: (event) => {
      recorded += 1;
      const id = `e${recorded}`;
      const isAllow = event.type === 'stream.decision' && event.data.allow;
      trace.add(`record ${isAllow ? 'allow' : 'deny'}`);
      return new Promise((resolve) => {
        setImmediate(() => {
          events.push(event);
          trace.add(`recorded ${id}`);
          resolve({ event_id: id, seq: recorded });
        });
      });
    },
  };
  const connect: Connect = (address, port) => {
    trace.add(`connect ${address}:${port}`);
    const socket = new FakeSocket();
    sockets.push(socket);
    if (harness.isReachable) setImmediate(() => socket.emit('connect'));
    return socket as unknown as Socket;
  };
  const guard: Harness['guard'] = {
    allowLoopbackPorts: new Set<number>(),
    ownListeners: [],
    allowAuditDatabase: false,
  };
  const time = policyTimeIn('UTC');
  const opener = new Opener({
    agentName: 'agent-1',
    onDecided: () => undefined,
    clock,
    wheel,
    logger: silentLogger,
    resolver: new Resolver(clock, options.lookup ?? (() => Promise.resolve([ADDRESS]))),
    slots,
    streams,
    keeper,
    policy: port,
    audit: {
      record: (event) => audit.record(event),
      note: (event) => {
        events.push(event);
        const reason = 'reason' in event.data ? String(event.data.reason) : '';
        trace.add(`note ${event.type} ${reason}`);
      },
    },
    connect,
    failures,
    targets,
    metrics: agentMetrics(new Registry(), {
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
      bundleAgeMs: () => undefined,
      audit: () => ({ spoolBytes: 0, oldestSeconds: 0, dropped: 0, shareRefusals: 0, noteFailures: 0 }),
    }),
    denials: new DenialGate(clock),
    limits: () => ({ openTimeoutMs: 15_000, connectTimeoutMs: 5_000 }),
    guard: () => guard,
    managed: () => harness.managed,
    now: () => ({ time: time(clock.nowMs()), managed: { require_proof: false } }),
    barred: () => harness.barredBy,
  });
  const harness: Harness = {
    clock,
    wheel,
    trace,
    opener,
    slots,
    streams,
    keeper,
    failures,
    targets,
    link,
    events,
    rechecks,
    policy,
    audit,
    guard,
    sockets,
    managed: ManagedSettings.absent,
    isReachable: true,
    barredBy: undefined,
  };
  return harness;
};

/** Opens one stream and waits until it is accepted or refused. */
export const openOne = async (harness: Harness, meta: Partial<OpenMeta> = {}): Promise<FakeIncoming> => {
  const incoming = new FakeIncoming(harness.trace, meta);
  const before = harness.trace.lines.length;
  harness.opener.open(incoming, harness.link);
  const isAnswered = (): boolean =>
    harness.trace.lines.slice(before).some((line) => line.startsWith('accept') || line.startsWith('refuse'));
  while (!isAnswered()) await once(harness.trace, 'line');
  return incoming;
};
