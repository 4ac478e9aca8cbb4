import type { Endpoint, GuardSettings } from '../policy/index.ts';
import { portsOf } from '../protocol/index.ts';
import { type Clock, type Logger, parseHostPort, type Timer } from '../runtime/index.ts';
import type { AgentConfig } from './config.ts';
import type { Resolver } from './resolver.ts';

/** How often the names of our own relays and audit database are resolved again. */
const REFRESH_MS = 60_000;
const POSTGRES_PORT = 5_432;

interface Named {
  readonly host: string;
  readonly ports: readonly number[];
}

const databaseOf = (url: string | undefined): Named[] => {
  if (url === undefined) return [];
  try {
    const { hostname, port } = new URL(url);
    const host = hostname.replace(/^\[|\]$/g, '');
    return host === '' ? [] : [{ host, ports: [port === '' ? POSTGRES_PORT : Number(port)] }];
  } catch {
    // A socket path or a key=value string: nothing that a stream could be opened to.
    return [];
  }
};

/** The guard's settings of this installation, with its own names resolved now and then. */
export class GuardKeeper {
  readonly #resolver: Resolver;
  readonly #logger: Logger;
  readonly #timer: Timer;
  #config: AgentConfig;
  #status: Endpoint[] = [];
  #settings: GuardSettings;

  constructor(config: AgentConfig, resolver: Resolver, clock: Clock, logger: Logger) {
    this.#config = config;
    this.#resolver = resolver;
    this.#logger = logger;
    this.#settings = this.#make([], []);
    this.#timer = clock.every(REFRESH_MS, () => void this.refresh()).unref();
  }

  get settings(): GuardSettings {
    return this.#settings;
  }

  /** Takes up a new configuration and, once bound, the status listener. */
  async configure(config: AgentConfig, statusUrl?: string): Promise<void> {
    this.#config = config;
    if (statusUrl !== undefined) {
      const { host, port } = parseHostPort(new URL(statusUrl).host);
      this.#status = [{ address: host, port }];
    }
    await this.refresh();
  }

  /** Resolves the names again; what cannot be resolved keeps its last addresses. */
  async refresh(): Promise<void> {
    const relays = this.#config.relays.map((node) => ({ host: node.host, ports: portsOf(node) }));
    const [listeners, databases] = await Promise.all([
      this.#endpoints(relays),
      this.#endpoints(databaseOf(this.#config.audit.database_url)),
    ]);
    this.#settings = this.#make(listeners, databases);
  }

  close(): void {
    this.#timer.cancel();
  }

  async #endpoints(names: readonly Named[]): Promise<Endpoint[]> {
    const found = await Promise.all(
      names.map(async ({ host, ports }) => {
        const resolution = await this.#resolver.resolve(host);
        if (!resolution.ok) {
          this.#logger.warn(
            { host, detail: resolution.detail },
            'own name does not resolve; the guard keeps what it had',
          );
          return [...this.#settings.ownListeners, ...(this.#settings.auditDatabase ?? [])].filter(
            ({ port }) => ports.includes(port),
          );
        }
        return resolution.addresses.flatMap((address) => ports.map((port) => ({ address, port })));
      }),
    );
    return found.flat();
  }

  /** A listener by name could be any local address: the guard takes it so. */
  #gateways(): Endpoint[] {
    return this.#config.own_listeners.map((listen) => {
      const { host, port } = parseHostPort(listen);
      return { address: host, port };
    });
  }

  #make(listeners: readonly Endpoint[], databases: readonly Endpoint[]): GuardSettings {
    return {
      allowLoopbackPorts: new Set(this.#config.allow_loopback),
      ownListeners: [...this.#status, ...this.#gateways(), ...listeners],
      auditDatabase: databases,
      allowAuditDatabase: this.#config.allow_audit_database,
    };
  }
}
