import { type AuditLog, checkpointMetrics, type PolicyStore, registerSinkMetrics } from '../audit/index.ts';
import { agentSubjectIds, connectionSubjectId } from '../identity/index.ts';
import { MANAGED_LOCATION, ManagedHost, type ManagedLocation, type PolicyHost } from '../policy/index.ts';
import {
  CarrierBook,
  configuredProxy,
  linkCounts,
  NodeLogin,
  openDataLink,
  type OwnParty,
  ServerRevocation,
} from '../protocol/index.ts';
import {
  type Clock,
  type CloseReason,
  createLinkCertificate,
  createRegistry,
  type LinkCertificate,
  type Logger,
  makeStateDirectory,
  messageOf,
  packageVersion,
  startStatusServer,
  type StatusServer,
  type Timer,
  TimerWheel,
  type Instance,
  openInstance,
} from '../runtime/index.ts';
import { agentReadiness, agentStatus, type AgentView } from './agent-status.ts';
import type { AgentConfig } from './config.ts';
import { Connector, type MakeLogin } from './connector.ts';
import { watchClock } from './clock-watch.ts';
import { type AgentCredentials, changedKeys, readAuthorities, readCredentials } from './credentials.ts';
import { DENIAL_WINDOW_MS, DenialGate } from './denial-gate.ts';
import { type Connect, connectTcp } from './dialler.ts';
import { keysChangedEvent, recheckEvent } from './events.ts';
import { FailureLog } from './failures.ts';
import { forgetAsAsked } from './forget-requests.ts';
import {
  areKeysChanged,
  awaitingRestart,
  governedConfig,
  isMoved,
  policyInUseOf,
} from './governed-config.ts';
import { GuardKeeper } from './guard-settings.ts';
import { HostPolicy } from './host-policy.ts';
import { Keeper } from './keeper.ts';
import { LiveStreams } from './live-streams.ts';
import { policyTimeIn } from './local-time.ts';
import { ManagedLogins } from './managed-login.ts';
import { watchManaged } from './managed-watch.ts';
import { agentMetrics } from './metrics.ts';
import { Opener } from './opener.ts';
import { keepCopies } from './policy-copies.ts';
import { PolicyIntake } from './policy-intake.ts';
import { watchPolicy } from './policy-watch.ts';
import type { AgentProcess } from './process.ts';
import { Publisher } from './publisher.ts';
import { Rechecker } from './rechecker.ts';
import { type Lookup, Resolver, systemLookup } from './resolver.ts';
import { RevocationSet } from './revocations.ts';
import {
  bundleOrigin,
  bundleTrust,
  drainMs,
  openAudit,
  openLimits,
  openPolicy,
  openPolicyStore,
  probeIntervalsMs,
  reloaded,
  slotLimits,
} from './settings.ts';
import { SlotTable } from './slots.ts';
import { TargetHealth } from './target-health.ts';
import { TargetProber } from './target-prober.ts';
import { Turns } from './turns.ts';

/** What a process is given; the optional parts are replaced by tests that inject faults. */
export interface AgentDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly audit?: AuditLog;
  readonly policyHost?: PolicyHost;
  readonly connect?: Connect;
  readonly lookup?: Lookup;
  readonly login?: MakeLogin;
  readonly openLink?: typeof openDataLink;
  /** Default: the one place in production. */
  readonly managedLocation?: ManagedLocation;
}

/** Failures are told to the relay nodes together, at most this late. */
const NEWS_DELAY_MS = 100;
/** How often revocations are dropped that no node tells any more. */
const EXPIRE_EVERY_MS = 60 * 60 * 1_000;
/** The audit database gets this long at the end. */
const FLUSH_MS = 2_000;

/** What starting makes before there is an agent. */
interface Parts {
  readonly instance: Instance;
  readonly audit: AuditLog;
  readonly host: PolicyHost;
  readonly policyStore: PolicyStore | undefined;
  readonly managed: ManagedHost;
  /** As managed settings have it; audit and policy were opened by it. */
  readonly governed: AgentConfig;
  readonly certificate: LinkCertificate;
  readonly ca: string | undefined;
  readonly revocations: RevocationSet;
  readonly credentials: AgentCredentials;
}

/** Everything of one running agent; built once, closed once. */
class Agent implements AgentProcess {
  readonly #deps: AgentDeps;
  readonly #instance: Instance;
  readonly #audit: AuditLog;
  readonly #host: PolicyHost;
  readonly #policyStore: PolicyStore | undefined;
  readonly #managed: ManagedHost;
  /** What agent.yaml and managed settings come to, as far as it holds without a restart. */
  #governed: AgentConfig;
  readonly #logins: ManagedLogins;
  readonly #guard: GuardKeeper;
  readonly #policy: HostPolicy;
  readonly #wheel: TimerWheel;
  readonly #streams = new LiveStreams();
  readonly #slots: SlotTable;
  readonly #failures: FailureLog;
  readonly #revocations: RevocationSet;
  readonly #rechecker: Rechecker;
  readonly #targets: TargetHealth;
  readonly #prober: TargetProber;
  #probeIntervals: ReadonlyMap<string, number>;
  readonly #publisher: Publisher;
  readonly #revocation: ServerRevocation;
  readonly #carriers: CarrierBook;
  readonly #connector: Connector;
  readonly #registry = createRegistry('agent', { version: packageVersion });
  readonly #opener: Opener;
  readonly #clockWatch: Timer;
  readonly #denialFlush: Timer;
  readonly #expiry: Timer;
  readonly #startedMs: number;
  readonly #agentInput: { name: string; instance: string; labels: Record<string, string>; version: string };
  #config: AgentConfig;
  #status: StatusServer | undefined;
  readonly #intake: PolicyIntake;
  #stopTrying: () => void = () => undefined;
  #draining: CloseReason | undefined;
  #closing: Promise<void> | undefined;

  constructor(config: AgentConfig, deps: AgentDeps, parts: Parts) {
    const { clock, logger } = deps;
    const { instance, audit, host, managed, certificate, ca, revocations, credentials } = parts;
    this.#config = config;
    this.#deps = deps;
    this.#instance = instance;
    this.#audit = audit;
    this.#host = host;
    this.#managed = managed;
    this.#policyStore = parts.policyStore;
    this.#governed = parts.governed;
    this.#revocations = revocations;
    this.#startedMs = clock.monotonicMs();
    this.#wheel = new TimerWheel(clock);
    this.#slots = new SlotTable(slotLimits(config));
    this.#failures = new FailureLog(() => void this.#wheel.after(NEWS_DELAY_MS, () => this.#tellFailures()));
    const resolver = new Resolver(clock, deps.lookup ?? systemLookup);
    this.#guard = new GuardKeeper(config, resolver, clock, logger);
    const governed = (): AgentConfig => this.#governed;
    this.#policy = new HostPolicy({
      host,
      guard: () => this.#guard.settings,
      managed,
      get policyInUse() {
        return policyInUseOf(governed());
      },
    });
    // Before anything is held against the new settings: their keys count in their tick.
    managed.onChanged(() => void this.#applyPolicy());
    const timeNow = policyTimeIn(config.time_zone);
    const now = () => ({ time: timeNow(clock.nowMs()), managed: managed.settings.input });
    checkpointMetrics(this.#registry, () => audit.health().checkpoints);
    registerSinkMetrics(this.#registry, () => audit.health().sinks);
    const metrics = agentMetrics(this.#registry, {
      streams: () => this.#streams.count,
      openings: () => this.#slots.inUse,
      links: () => linkCounts(this.#connector.links, this.#connector.handshakes),
      logins: () =>
        ['up', 'connecting'].map((state) => ({
          state,
          count: this.#connector.states().filter(({ kind }) => kind === state).length,
        })),
      linkRttMs: () => {
        const rtts = this.#connector.links.flatMap((link) => link.stats().rttMs ?? []);
        return rtts.length === 0 ? undefined : rtts.reduce((sum, rtt) => sum + rtt, 0) / rtts.length;
      },
      creditStalls: () => this.#connector.links.reduce((sum, link) => sum + link.stats().creditStalls, 0),
      decisionQueue: () => this.#policy.pendingCount,
      targets: () =>
        this.#targets
          .status(this.#connector.connections)
          .flatMap(({ connection, state }) =>
            state === 'unknown' ? [] : [{ connection, count: Number(state === 'reachable') }],
          ),
      isBundleHeld: () => host.status().held !== undefined,
      shadowState: () => this.#intake.shadowStatus().state,
      bundleAgeMs: () => host.status().freshness.ageMs,
      audit: () => {
        const health = audit.health();
        return {
          spoolBytes: health.spool_bytes,
          oldestSeconds: health.oldest_unacknowledged_seconds,
          dropped: health.dropped,
          shareRefusals: health.share_refusals,
          noteFailures: health.note_failures,
        };
      },
    });
    const turns = new Turns(clock);
    this.#rechecker = new Rechecker({
      policy: this.#policy,
      turns,
      streams: this.#streams,
      logger,
      refresh: (base) => ({ ...base, ...now() }),
      onKept: (stream) => {
        metrics.rechecks.inc({ result: 'kept' });
        keeper.watch(stream);
      },
      onDenied: (stream, decision) => {
        metrics.rechecks.inc({ result: 'denied' });
        audit.note(recheckEvent(stream, decision));
      },
    });
    const keeper = new Keeper(clock, this.#wheel, (stream) => this.#rechecker.add(stream));
    const agent = {
      name: config.name,
      instance: instance.instance,
      labels: config.labels,
      version: packageVersion,
    };
    this.#agentInput = agent;
    this.#publisher = new Publisher({
      namespace: config.namespace,
      agent,
      spki: certificate.spki,
      clock,
      wheel: this.#wheel,
      logger,
      audit,
      policy: this.#policy,
      resolver,
      now,
      usage: (connection) => ({
        connection: { streams: this.#slots.ofConnection(connection) },
        agent: { streams: this.#slots.inUse },
      }),
      pinned: (connection) => credentials.pins.get(connection),
      revoked: ({ key_id, connection_id }) =>
        [key_id, ...agentSubjectIds(config.name, instance.instance), connectionSubjectId(connection_id)]
          .map((id) => revocations.reasonFor(id))
          .find((reason) => reason !== undefined),
      port: (node) => this.#connector.login(node),
      onOffered: (node, handle) => this.#connector.keys.onOffered(node, handle),
      onDecided: (decided) => this.#intake.saw(decided),
    });
    const connect = deps.connect ?? connectTcp;
    this.#targets = new TargetHealth(clock, logger);
    this.#probeIntervals = probeIntervalsMs(config);
    this.#prober = new TargetProber({
      clock,
      wheel: this.#wheel,
      logger,
      resolver,
      connect,
      health: this.#targets,
      intervalsMs: () => this.#probeIntervals,
      published: () => this.#publisher.published(),
      isBarred: () =>
        this.#barred() !== undefined ||
        this.#barredByManaged() !== undefined ||
        host.status().freshness.isStale,
      connectTimeoutMs: () => openLimits(this.#config).connectTimeoutMs,
      guard: () => this.#guard.settings,
      managed: () => managed.settings,
      onProbed: (result) => metrics.targetProbes.inc({ result }),
    });
    this.#opener = new Opener({
      agentName: config.name,
      clock,
      wheel: this.#wheel,
      logger,
      resolver,
      slots: this.#slots,
      streams: this.#streams,
      keeper,
      policy: this.#policy,
      audit,
      connect,
      failures: this.#failures,
      targets: this.#targets,
      metrics,
      denials: new DenialGate(clock),
      limits: () => openLimits(this.#config),
      guard: () => this.#guard.settings,
      managed: () => managed.settings,
      now,
      barred: () => this.#barred(),
      onDecided: (decided) => this.#intake.saw(decided),
    });
    const own: OwnParty = {
      name: config.name,
      instance: instance.instance,
      namespace: config.namespace,
      build: packageVersion,
    };
    const bars = (node: string): CloseReason | undefined =>
      managed.settings.barsRelay(node) && 'managed_denied';
    this.#logins = new ManagedLogins(
      deps.login ?? ((options) => new NodeLogin(options)),
      (node) => bars(node) === undefined,
    );
    this.#revocation = new ServerRevocation({
      mode: config.tls.revocation,
      proxies: config.proxy && configuredProxy(config.proxy),
      stateDir: config.state_dir,
      clock,
      logger,
      onJudged: ({ state }) => metrics.certificateChecks.inc({ state }),
    });
    this.#carriers = new CarrierBook({
      nodes: config.relays,
      side: 'agent',
      ca,
      proxies: configuredProxy(config.proxy),
      stateDir: config.state_dir,
      clock,
      logger,
    });
    this.#connector = new Connector({
      namespace: config.namespace,
      agent,
      own,
      instanceSecret: instance.secret,
      relays: config.relays,
      ca,
      caFile: config.ca_file,
      revocation: this.#revocation,
      carriers: this.#carriers,
      credentials: credentials.credentials,
      certificate,
      maxLinks: () => this.#config.limits.links,
      clock,
      wheel: this.#wheel,
      logger,
      audit,
      revocations,
      publisher: this.#publisher,
      streams: this.#streams,
      metrics,
      barred: () => this.#barred(),
      managed: bars,
      open: (incoming, link) => this.#opener.open(incoming, link),
      health: () => this.#health(),
      login: this.#logins.make,
      openLink: deps.openLink ?? openDataLink,
    });
    this.#intake = new PolicyIntake({
      config: parts.governed,
      policy: () => governed().policy,
      host,
      audit,
      clock,
      logger,
      streams: this.#streams,
      turns,
      published: () => this.#publisher.published(),
      now,
      bounds: () => this.#policy.bounds(),
      agent,
      onFetched: (result) => metrics.bundleFetches.inc({ result }),
      onShadowed: (result) => metrics.shadowDecisions.inc({ result }),
      onReported: (result) => metrics.statusReports.inc({ result }),
    });
    this.#denialFlush = clock.every(DENIAL_WINDOW_MS, () => this.#opener.flushDenials(false)).unref();
    this.#expiry = clock
      .every(EXPIRE_EVERY_MS, () => void revocations.expire(this.#connector.lastSyncMs()))
      .unref();
    this.#clockWatch = watchClock(clock, (stepMs) => {
      logger.warn({ step_ms: stepMs }, 'the wall clock was set');
      audit.note({ type: 'agent.clock_step', subject: this.#subject(), data: { step_ms: stepMs } });
      this.#rechecker.addAll();
    });
  }

  async start(): Promise<void> {
    await this.#forgetAsAsked();
    this.#status = await startStatusServer({
      listen: this.#config.status.listen,
      registry: this.#registry,
      clock: this.#deps.clock,
      ready: () => agentReadiness(this.#view()),
      status: () => agentStatus(this.#view()),
    });
    await this.#guard.configure(this.#config, this.#status.url);
    this.#audit.note({
      type: 'agent.started',
      subject: this.#subject(),
      data: { version: packageVersion, build: process.version },
    });
    const onChange = (): void => {
      this.#rechecker.addAll();
      this.#publisher.evaluateAll();
      for (const login of this.#connector.logins) login.reportHealth(this.#health());
    };
    watchManaged({
      managed: this.#managed,
      audit: this.#audit,
      logger: this.#deps.logger,
      subject: this.#subject(),
      streams: this.#streams,
      links: () => this.#connector.links,
      denial: (stream) => this.#policy.managedDenial(stream),
      governLogins: () => this.#logins.govern(),
      onChange,
    });
    this.#stopTrying = watchPolicy({
      host: this.#host,
      clock: this.#deps.clock,
      audit: this.#audit,
      subject: this.#subject(),
      onChange,
    });
    if (this.#policyStore !== undefined) keepCopies(this.#host, this.#policyStore);
    this.#intake.start();
    this.#connector.start();
  }

  get statusUrl(): string {
    return this.#status?.url ?? '';
  }

  async drain(): Promise<void> {
    if (this.#draining !== undefined) return;
    const { clock, logger } = this.#deps;
    const deadlineMs = drainMs(this.#config);
    this.#draining = 'agent_shutdown';
    logger.info({ streams: this.#streams.count, deadline_ms: deadlineMs }, 'draining');
    this.#connector.drain(deadlineMs);
    const cut = clock.after(deadlineMs, () => void this.#streams.cut('agent_shutdown', () => true));
    await this.#streams.whenNone();
    cut.cancel();
  }

  async reload(config: AgentConfig): Promise<void> {
    const { logger } = this.#deps;
    const keys = changedKeys(this.#config, config, logger);
    const { config: taken, ignored } = reloaded(this.#config, config, keys !== undefined);
    if (ignored.length > 0) {
      logger.warn({ keys: ignored }, 'these settings change with a restart only');
    }
    this.#config = taken;
    for (const { handle, next } of keys ?? []) this.#connector.keys.change(handle, next);
    this.#agentInput.labels = taken.labels;
    this.#slots.setLimits(slotLimits(this.#config));
    this.#probeIntervals = probeIntervalsMs(this.#config);
    await this.#forgetAsAsked();
    await this.#managed.reload();
    await this.#applyPolicy();
    await this.#guard.configure(this.#config);
    await this.#host.reload();
    this.#intake.reloaded();
    this.#publisher.evaluateAll();
    this.#rechecker.addAll();
  }

  async reloadManaged(): Promise<void> {
    await this.#managed.reload();
  }

  /** Keys, where bundles come from, how they are fetched and held, as agent.yaml and managed settings have it now. */
  #applyPolicy(): Promise<void> {
    const before = this.#governed.policy;
    const { policy } = governedConfig(this.#config, this.#managed.settings);
    this.#governed = { ...this.#governed, policy };
    const steps: Promise<void>[] = [];
    if (areKeysChanged(before, policy)) {
      this.#audit.note(keysChangedEvent(this.#subject(), before, policy));
      steps.push(this.#host.trust(bundleTrust(this.#governed)));
    }
    if (isMoved(before, policy)) {
      const moved = this.#host.moveTo(bundleOrigin(this.#governed));
      steps.push(moved, this.#intake.follow(policy.bundle_url, moved));
    }
    return Promise.all(steps).then(() => undefined);
  }

  #forgetAsAsked(): Promise<void> {
    const { state_dir, namespace, name } = this.#config;
    const { logger } = this.#deps;
    return forgetAsAsked(state_dir, {
      revocations: this.#revocations,
      audit: this.#audit,
      logger,
      namespace,
      agent: name,
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#draining ??= 'agent_shutdown';
    const { clock, logger } = this.#deps;
    this.#publisher.close();
    this.#prober.close();
    await this.#managed.close();
    this.#streams.cut('agent_shutdown', () => true);
    await this.#connector.close();
    await this.#carriers.close();
    this.#clockWatch.cancel();
    this.#denialFlush.cancel();
    this.#expiry.cancel();
    this.#opener.flushDenials(true);
    this.#stopTrying();
    await this.#intake.close();
    this.#guard.close();
    this.#wheel.close();
    await this.#host.close();
    await this.#policyStore?.close();
    this.#revocations.save();
    this.#audit.note({
      type: 'agent.stopped',
      subject: this.#subject(),
      data: { version: packageVersion, uptime_ms: Math.round(clock.monotonicMs() - this.#startedMs) },
    });
    if (!(await this.#audit.flush(FLUSH_MS)))
      logger.warn('the audit database does not have everything yet; the spool keeps it');
    await this.#audit.close();
    await this.#status?.close();
  }

  /** Why nothing new is served. Other agents may have room for what this one cannot keep. */
  #barred(): CloseReason | undefined {
    return this.#draining ?? (this.#revocations.isFull ? 'overloaded' : undefined);
  }

  /** Why managed settings let nothing be served. */
  #barredByManaged(): string | undefined {
    const { settings } = this.#managed;
    return settings.barsAll() ?? settings.barsPolicy(this.#policy.inUse('open'));
  }

  #subject(): { namespace: string; agent: string } {
    return { namespace: this.#config.namespace, agent: this.#config.name };
  }

  #health(): { healthy_nodes: string[]; streams: number; bundle_sha256?: string; bundle_sequence?: number } {
    const active = this.#host.active;
    return {
      healthy_nodes: this.#connector.healthyNodes(),
      streams: this.#streams.count,
      ...(active === undefined ? {} : { bundle_sha256: active.sha256, bundle_sequence: active.sequence }),
    };
  }

  #tellFailures(): void {
    const failures = this.#failures.takeNews();
    if (failures.length === 0) return;
    for (const login of this.#connector.logins) login.reportHealth({ failures });
  }

  #view(): AgentView {
    return {
      version: packageVersion,
      namespace: this.#config.namespace,
      name: this.#config.name,
      instance: this.#instance.instance,
      isDraining: this.#draining !== undefined,
      connections: this.#connector.connections,
      offered: this.#publisher.offered(),
      logins: this.#connector.states(),
      carriers: this.#carriers.status(),
      publications: this.#publisher.status(),
      targets: this.#targets.status(this.#connector.connections),
      refusedKeys: this.#connector.refusedKeys(),
      revocation: this.#revocation,
      links: this.#connector.links,
      streams: this.#streams.count,
      openings: this.#slots.inUse,
      policy: this.#host.status(),
      bundleSource: this.#intake.sourceStatus(),
      reporter: this.#intake.reporterStatus(),
      shadow: this.#intake.shadowStatus(),
      managed: {
        ...this.#managed.status(),
        bars: this.#barredByManaged(),
        awaitingRestart: awaitingRestart(this.#managed.settings, this.#governed),
      },
      isAuditAvailable: this.#audit.available(),
      audit: this.#audit.health(),
      policyCopies: this.#policyStore?.status(),
      revocations: this.#revocations.size,
      areRevocationsFull: this.#revocations.isFull,
      failures: this.#failures,
    };
  }
}

/**
 * Starts the agent: everything that can be wrong with its configuration, state and listeners is said here; relays
 * and audit database may come later.
 *
 * @throws AppError ERR_AGENT_CONFIG, ERR_AGENT_STATE, ERR_LISTEN_REFUSED, and what opening the audit spool throws
 */
export const startAgent = async (config: AgentConfig, deps: AgentDeps): Promise<AgentProcess> => {
  const { clock, logger } = deps;
  const credentials = readCredentials(config, logger);
  const ca = await readAuthorities(config.ca_file);
  makeStateDirectory(config.state_dir, 'ERR_AGENT_STATE');
  const revocations = new RevocationSet(config.state_dir, clock, logger);
  const instance = openInstance(config.state_dir, clock, 'ERR_AGENT_STATE');
  const certificate = await createLinkCertificate(config.name, clock);
  const managed = await ManagedHost.open({
    location: deps.managedLocation ?? MANAGED_LOCATION,
    clock,
    logger,
  });
  const governed = governedConfig(config, managed.settings);
  const audit = deps.audit ?? (await openAudit(governed, instance.instance, deps));
  const host = deps.policyHost ?? (await openPolicy(governed, deps));
  const agent = new Agent(config, deps, {
    instance,
    audit,
    host,
    policyStore: openPolicyStore(governed, deps),
    managed,
    governed,
    certificate,
    ca,
    revocations,
    credentials,
  });
  try {
    await agent.start();
  } catch (error) {
    await agent.close().catch((later: unknown) => logger.error({ err: messageOf(later) }, 'closing failed'));
    throw error;
  }
  return agent;
};
