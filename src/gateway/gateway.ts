import { NodeLogin, openDataLink } from '../protocol/index.ts';
import {
  type Clock,
  createLinkCertificate,
  createRegistry,
  type LinkCertificate,
  type Logger,
  makePrivateDirectory,
  messageOf,
  packageVersion,
  startStatusServer,
  type StatusServer,
  type Timer,
  TimerWheel,
  type Instance,
  openInstance,
} from '../runtime/index.ts';
import type { SasCredential } from '../identity/index.ts';
import { AppStreams } from './app-streams.ts';
import { DEFAULT_EAGER_CONNECTIONS, type GatewayConfig } from './config.ts';
import { Connector, type MakeLogin } from './connector.ts';
import { readAuthorities, readCredentials } from './credentials.ts';
import { Entrance } from './entrance.ts';
import { FailureLog } from './failures.ts';
import { gatewayReadiness, gatewayStatus, type GatewayView } from './gateway-status.ts';
import { gatewayMetrics } from './metrics.ts';
import type { GatewayEntrance, GatewayProcess } from './process.ts';

/** What a process is given; the optional parts are replaced by tests that inject faults. */
export interface GatewayDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly login?: MakeLogin;
  readonly openLink?: typeof openDataLink;
}

const SECOND_MS = 1_000;
/** Failures are told to the relay nodes together, at most this late. */
const NEWS_DELAY_MS = 100;
const MAINTENANCE_MS = 5_000;

/** Everything of one running gateway; built once, closed once. */
class Gateway implements GatewayProcess {
  readonly #deps: GatewayDeps;
  readonly #instance: Instance;
  readonly #wheel: TimerWheel;
  readonly #failures: FailureLog;
  readonly #streams: AppStreams;
  readonly #connector: Connector;
  readonly #entrances: readonly Entrance[];
  readonly #registry = createRegistry('gateway', { version: packageVersion });
  readonly #maintenance: Timer;
  #config: GatewayConfig;
  #status: StatusServer | undefined;
  #isDraining = false;
  #closing: Promise<void> | undefined;

  constructor(
    config: GatewayConfig,
    deps: GatewayDeps,
    parts: {
      readonly instance: Instance;
      readonly certificate: LinkCertificate;
      readonly ca: string | undefined;
      readonly credentials: readonly SasCredential[];
    },
  ) {
    const { clock, logger } = deps;
    const { instance, certificate, ca, credentials } = parts;
    this.#config = config;
    this.#deps = deps;
    this.#instance = instance;
    this.#wheel = new TimerWheel(clock);
    this.#failures = new FailureLog(() => void this.#wheel.after(NEWS_DELAY_MS, () => this.#tellFailures()));
    const metrics = gatewayMetrics(this.#registry, {
      streams: () => this.#streams.count,
      waiting: () => this.#connector.pools.reduce((sum, pool) => sum + pool.waitingCount, 0),
      links: () => [
        { state: 'up', count: this.#connector.links.length },
        { state: 'opening', count: this.#connector.opening },
      ],
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
    });
    this.#streams = new AppStreams({
      clock,
      wheel: this.#wheel,
      logger,
      metrics,
      failures: this.#failures,
      maxStreams: () => this.#config.limits.streams,
      openTimeoutMs: () => this.#config.limits.open_timeout_seconds * SECOND_MS,
    });
    this.#connector = new Connector({
      own: {
        name: config.name,
        instance: instance.instance,
        namespace: config.namespace,
        build: packageVersion,
      },
      instanceSecret: instance.secret,
      relays: config.relays,
      ca,
      pools: config.connections.flatMap(({ name, eager }, index) => {
        const credential = credentials[index];
        const isEager = eager ?? index < DEFAULT_EAGER_CONNECTIONS;
        return credential === undefined ? [] : [{ credential, connection: name, isEager }];
      }),
      certificate,
      maxLinks: () => this.#config.limits.links,
      clock,
      wheel: this.#wheel,
      logger,
      metrics,
      health: () => ({ healthy_nodes: this.#connector.healthyNodes(), streams: this.#streams.count }),
      login: deps.login ?? ((options) => new NodeLogin(options)),
      openLink: deps.openLink ?? openDataLink,
    });
    this.#entrances = this.#connector.pools.map(
      (pool) => new Entrance(pool.connection, logger, (socket) => this.#streams.accept(socket, pool)),
    );
    this.#maintenance = clock.every(MAINTENANCE_MS, () => this.#connector.maintain()).unref();
  }

  async start(): Promise<void> {
    const { clock, logger } = this.#deps;
    const { connections, status } = this.#config;
    this.#status = await startStatusServer({
      listen: status.listen,
      registry: this.#registry,
      clock,
      ready: () => gatewayReadiness(this.#view()),
      status: () => gatewayStatus(this.#view()),
    });
    for (const entrance of this.#entrances) {
      const listen = connections.find(({ name }) => name === entrance.connection)?.listen ?? '';
      await entrance.open(listen);
      logger.info({ connection: entrance.connection, listen: entrance.listen }, 'listening for applications');
    }
    this.#connector.start();
  }

  get statusUrl(): string {
    return this.#status?.url ?? '';
  }

  get entrances(): readonly GatewayEntrance[] {
    return this.#entrances.map(({ connection, listen }) => ({ connection, listen }));
  }

  async drain(): Promise<void> {
    if (this.#isDraining) return;
    this.#isDraining = true;
    const { clock, logger } = this.#deps;
    const deadlineMs = this.#config.limits.drain_seconds * SECOND_MS;
    logger.info({ streams: this.#streams.count, deadline_ms: deadlineMs }, 'draining');
    for (const entrance of this.#entrances) entrance.close();
    this.#connector.drain(deadlineMs);
    const cut = clock.after(deadlineMs, () => this.#streams.cutAll('gateway_shutdown'));
    await this.#streams.whenNone();
    cut.cancel();
  }

  reload(config: GatewayConfig): Promise<void> {
    const { logger } = this.#deps;
    const old = this.#config;
    const fixed = ['namespace', 'name', 'state_dir', 'relays', 'ca_file', 'status'] as const;
    const withoutKeys = (of: GatewayConfig): string =>
      JSON.stringify(of.connections.map((connection) => ({ ...connection, connection_string: '' })));
    const ignored: string[] = fixed.filter((key) => JSON.stringify(old[key]) !== JSON.stringify(config[key]));
    if (withoutKeys(old) !== withoutKeys(config)) ignored.push('connections');
    else this.#changeKeys(config);
    this.#config = { ...this.#config, limits: config.limits };
    if (ignored.length > 0) {
      logger.warn({ keys: ignored }, 'these settings change with a restart only');
    }
    return Promise.resolve();
  }

  /** @throws AppError ERR_GATEWAY_CONFIG; nothing is changed then */
  #changeKeys(config: GatewayConfig): void {
    const credentials = readCredentials(config, this.#deps.logger);
    for (const [index, { name, connection_string, eager }] of config.connections.entries()) {
      const credential = credentials[index];
      if (
        credential === undefined ||
        this.#config.connections[index]?.connection_string === connection_string
      )
        continue;
      const isEager = eager ?? index < DEFAULT_EAGER_CONNECTIONS;
      this.#connector.changeKey({ credential, connection: name, isEager });
    }
    this.#config = { ...this.#config, connections: config.connections };
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#isDraining = true;
    for (const entrance of this.#entrances) entrance.close();
    this.#maintenance.cancel();
    this.#streams.cutAll('gateway_shutdown');
    await this.#connector.close();
    this.#wheel.close();
    await this.#status?.close();
  }

  #tellFailures(): void {
    const failures = this.#failures.takeNews();
    if (failures.length === 0) return;
    for (const login of this.#connector.logins) login.reportHealth({ failures });
  }

  #view(): GatewayView {
    return {
      version: packageVersion,
      namespace: this.#config.namespace,
      name: this.#config.name,
      instance: this.#instance.instance,
      isDraining: this.#isDraining,
      logins: this.#connector.states(),
      pools: this.#connector.current,
      listens: new Map(this.#entrances.map(({ connection, listen }) => [connection, listen])),
      streams: this.#streams.count,
      failures: this.#failures,
    };
  }
}

/**
 * Starts the gateway: everything that can be wrong with its configuration, state and listeners is said here; the
 * relays may come later.
 *
 * @throws AppError ERR_GATEWAY_CONFIG, ERR_GATEWAY_STATE, ERR_LISTEN_REFUSED, ERR_CONFIG_HOST_PORT
 */
export const startGateway = async (config: GatewayConfig, deps: GatewayDeps): Promise<GatewayProcess> => {
  const { clock, logger } = deps;
  const credentials = readCredentials(config, logger);
  const ca = await readAuthorities(config.ca_file);
  makePrivateDirectory(config.state_dir);
  const instance = openInstance(config.state_dir, clock, 'ERR_GATEWAY_STATE');
  const certificate = await createLinkCertificate(config.name, clock);
  const gateway = new Gateway(config, deps, { instance, certificate, ca, credentials });
  try {
    await gateway.start();
  } catch (error) {
    await gateway
      .close()
      .catch((later: unknown) => logger.error({ err: messageOf(later) }, 'closing failed'));
    throw error;
  }
  return gateway;
};
