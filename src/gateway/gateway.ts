import {
  CarrierBook,
  configuredProxy,
  linkCounts,
  NodeLogin,
  openDataLink,
  ServerRevocation,
} from '../protocol/index.ts';
import {
  type Clock,
  type DirectoryLock,
  createLinkCertificate,
  createRegistry,
  type LinkCertificate,
  type Logger,
  messageOf,
  packageVersion,
  sleep,
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
import { Entrances, type EntranceView } from './entrance/entrances.ts';
import { FailureLog } from './failures.ts';
import { gatewayReadiness, gatewayStatus, type GatewayView } from './gateway-status.ts';
import { gatewayMetrics } from './metrics.ts';
import { readHostsFile, systemHostsFile } from './names/hosts-file.ts';
import { type AddressedHost, assignNames, missingNames } from './names/names.ts';
import { pinnedTargets } from './names/named-hosts.ts';
import { PinnedTargets } from './pinned-targets.ts';
import type { GatewayProcess } from './process.ts';
import { lockState } from './state-lock.ts';

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
/** Links without streams have this long to close in good order before they are cut: a session's last words have as long. */
const GOODBYE_MS = 1_000;

/** Everything of one running gateway; built once, closed once. */
class Gateway implements GatewayProcess {
  readonly #deps: GatewayDeps;
  readonly #instance: Instance;
  readonly #lock: DirectoryLock;
  readonly #wheel: TimerWheel;
  readonly #failures: FailureLog;
  readonly #streams: AppStreams;
  readonly #revocation: ServerRevocation;
  readonly #carriers: CarrierBook;
  readonly #connector: Connector;
  readonly #entrances: Entrances;
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
      readonly lock: DirectoryLock;
      readonly certificate: LinkCertificate;
      readonly ca: string | undefined;
      readonly credentials: readonly SasCredential[];
      readonly hosts: readonly AddressedHost[];
    },
  ) {
    const { clock, logger } = deps;
    const { instance, lock, certificate, ca, credentials } = parts;
    this.#lock = lock;
    this.#config = config;
    this.#deps = deps;
    this.#instance = instance;
    this.#wheel = new TimerWheel(clock);
    this.#failures = new FailureLog(() => void this.#wheel.after(NEWS_DELAY_MS, () => this.#tellFailures()));
    const metrics = gatewayMetrics(this.#registry, {
      streams: () => this.#streams.count,
      waiting: () => this.#connector.pools.reduce((sum, pool) => sum + pool.waitingCount, 0),
      links: () => linkCounts(this.#connector.links, this.#connector.opening),
      logins: () =>
        ['up', 'connecting'].map((state) => ({
          state,
          count: this.#connector.states().filter(({ kind }) => kind === state).length,
        })),
      handshakes: (entrance) => this.#entrances.handshakes(entrance),
      linkRttMs: () => {
        const rtts = this.#connector.links.flatMap((link) => link.stats().rttMs ?? []);
        return rtts.length === 0 ? undefined : rtts.reduce((sum, rtt) => sum + rtt, 0) / rtts.length;
      },
      creditStalls: () => this.#connector.links.reduce((sum, link) => sum + link.stats().creditStalls, 0),
    });
    this.#revocation = new ServerRevocation({
      mode: config.tls.revocation,
      proxies: config.proxy && configuredProxy(config.proxy),
      stateDir: config.state_dir,
      clock,
      logger,
      onJudged: ({ state }) => metrics.certificateChecks.inc({ state }),
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
    this.#carriers = new CarrierBook({
      nodes: config.relays,
      side: 'gateway',
      ca,
      proxies: configuredProxy(config.proxy),
      stateDir: config.state_dir,
      clock,
      logger,
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
      caFile: config.ca_file,
      revocation: this.#revocation,
      carriers: this.#carriers,
      pools: config.connections.flatMap(({ name, eager }, index) => {
        const credential = credentials[index];
        const isEager = eager ?? index < DEFAULT_EAGER_CONNECTIONS;
        return credential === undefined ? [] : [{ credential, connection: name, isEager }];
      }),
      pins: new PinnedTargets(pinnedTargets(config.connections)),
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
    this.#entrances = new Entrances(config, parts.hosts, this.#connector.pools, {
      clock,
      wheel: this.#wheel,
      logger,
      metrics,
      accept: (application, pool) => this.#streams.accept(application, pool),
    });
    this.#maintenance = clock.every(MAINTENANCE_MS, () => this.#connector.maintain()).unref();
  }

  async start(): Promise<void> {
    const { clock } = this.#deps;
    const { status } = this.#config;
    this.#status = await startStatusServer({
      listen: status.listen,
      registry: this.#registry,
      clock,
      ready: () => gatewayReadiness(this.#view()),
      status: () => gatewayStatus(this.#view()),
    });
    await this.#entrances.open();
    this.#connector.start();
  }

  get statusUrl(): string {
    return this.#status?.url ?? '';
  }

  get entrances(): readonly EntranceView[] {
    return this.#entrances.views;
  }

  async drain(): Promise<void> {
    if (this.#isDraining) return;
    this.#isDraining = true;
    const { clock, logger } = this.#deps;
    const deadlineMs = this.#config.limits.drain_seconds * SECOND_MS;
    logger.info({ streams: this.#streams.count, deadline_ms: deadlineMs }, 'draining');
    this.#entrances.close();
    const linksClosed = this.#connector.drain(deadlineMs);
    const cut = clock.after(deadlineMs, () => this.#streams.cutAll('gateway_shutdown'));
    await this.#streams.whenNone();
    cut.cancel();
    // Whoever reads the link is told why it ends: a link that is cut says nothing.
    const over = new AbortController();
    await Promise.race([linksClosed, sleep(clock, GOODBYE_MS, over.signal).catch(() => undefined)]);
    over.abort();
  }

  reload(config: GatewayConfig): Promise<void> {
    const { logger } = this.#deps;
    const old = this.#config;
    const fixed = [
      'namespace',
      'name',
      'state_dir',
      'relays',
      'ca_file',
      'tls',
      'proxy',
      'status',
      'socks5',
      'http_connect',
    ] as const;
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
    this.#entrances.close();
    this.#maintenance.cancel();
    this.#streams.cutAll('gateway_shutdown');
    await this.#connector.close();
    this.#entrances.destroy();
    await this.#carriers.close();
    this.#wheel.close();
    await this.#status?.close();
    await this.#lock.release();
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
      revocation: this.#revocation,
      carriers: this.#carriers.status(),
      pools: this.#connector.current,
      entrances: this.#entrances.views,
      streams: this.#streams.count,
      failures: this.#failures,
    };
  }
}

/** The addresses of the transparent names; says which of them this machine does not look up there. */
const openNames = async (config: GatewayConfig, { clock, logger }: GatewayDeps): Promise<AddressedHost[]> => {
  if (!config.connections.some(({ transparent }) => transparent === true)) {
    return assignNames(config, '', clock);
  }
  let text = '';
  try {
    text = readHostsFile(systemHostsFile());
  } catch (error) {
    logger.warn({ err: messageOf(error) }, 'the hosts file cannot be read');
  }
  const hosts = await assignNames(config, text, clock);
  const missing = missingNames(hosts, text);
  if (missing.length > 0) {
    logger.warn(
      { names: missing },
      'the hosts file does not lead these names here: run sallyport hosts apply',
    );
  }
  return hosts;
};

type Parts = ConstructorParameters<typeof Gateway>[2];

const gatewayOf = async (
  config: GatewayConfig,
  deps: GatewayDeps,
  parts: Pick<Parts, 'lock' | 'ca' | 'credentials'>,
): Promise<Gateway> => {
  const instance = openInstance(config.state_dir, deps.clock, 'ERR_GATEWAY_STATE');
  const certificate = await createLinkCertificate(config.name, deps.clock);
  const hosts = await openNames(config, deps);
  return new Gateway(config, deps, { ...parts, instance, certificate, hosts });
};

/**
 * Starts the gateway: everything that can be wrong with its configuration, state and listeners is said here; the
 * relays may come later.
 *
 * @throws AppError ERR_GATEWAY_CONFIG, ERR_GATEWAY_STATE, ERR_LISTEN_REFUSED, ERR_CONFIG_HOST_PORT
 */
export const startGateway = async (config: GatewayConfig, deps: GatewayDeps): Promise<GatewayProcess> => {
  const { logger } = deps;
  const credentials = readCredentials(config, logger);
  const ca = await readAuthorities(config.ca_file);
  const lock = await lockState(config.state_dir);
  const gateway = await gatewayOf(config, deps, { lock, ca, credentials }).catch(async (error: unknown) => {
    await lock.release();
    throw error;
  });
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
