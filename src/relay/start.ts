import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import {
  checkpointMetrics,
  checkpointsOf,
  openAuditLog,
  registerSinkMetrics,
  sinksOf,
} from '../audit/index.ts';
import { openControl } from '../control/index.ts';
import { controlPorts, portsOf } from '../protocol/index.ts';
import {
  AppError,
  type Clock,
  createRegistry,
  type Logger,
  makeStateDirectory,
  messageOf,
  packageVersion,
  startStatusServer,
  uuidv7,
} from '../runtime/index.ts';
import type { RelayConfig } from './config.ts';
import type { RelayErrorCode } from './errors.ts';
import { RelayNode } from './relay-node.ts';

const SECOND_MS = 1_000;
/** How long the last events may take to reach the audit database. */
const AUDIT_FLUSH_MS = 2_000;

export interface RelayDeps {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A running relay. */
export interface RelayProcess {
  /** `HOST:PORT` of each public listener. */
  readonly addresses: readonly string[];
  readonly adminUrl: string;
  readonly statusUrl: string;
  /** Takes nothing new and waits for links to end, at most `drain_seconds`. */
  drain(): Promise<void>;
  /** Takes up the certificate files anew; everything else needs a restart. @throws AppError ERR_RELAY_TLS */
  reload(config: RelayConfig): Promise<void>;
  close(): Promise<void>;
}

interface TlsFiles {
  readonly cert: string;
  readonly key: string;
}

const readTls = (config: RelayConfig): TlsFiles => {
  const { cert_file: certFile, key_file: keyFile } = config.tls;
  const code: RelayErrorCode = 'ERR_RELAY_TLS';
  try {
    const files = { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
    createSecureContext(files);
    return files;
  } catch (thrown) {
    throw new AppError(
      code,
      `certificate ${certFile} with key ${keyFile} cannot be used: ${messageOf(thrown)}`,
      {
        cause: thrown,
      },
    );
  }
};

/** Runs what was opened backwards when opening fails or the process closes; every step is tried. */
class Opened {
  readonly #steps: { readonly what: string; readonly close: () => Promise<void> }[] = [];
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  add(what: string, close: () => Promise<void>): void {
    this.#steps.push({ what, close });
  }

  async close(): Promise<void> {
    for (const { what, close } of this.#steps.splice(0).reverse()) {
      try {
        await close();
      } catch (thrown) {
        this.#logger.error({ what, detail: messageOf(thrown) }, 'closing failed');
      }
    }
  }
}

/**
 * Starts a relay process: audit log, control database, public port, management API, status listener. Postgres may
 * be away: the node is fenced until it is heard.
 *
 * @throws AppError ERR_RELAY_TLS, ERR_LISTEN_REFUSED, ERR_CONTROL_KEYRING, ERR_AUDIT_SPOOL_OPEN and its kin
 */
export const startRelay = async (config: RelayConfig, deps: RelayDeps): Promise<RelayProcess> => {
  const { clock, logger } = deps;
  const tls = readTls(config);
  const opened = new Opened(logger);
  try {
    makeStateDirectory(config.state_dir, 'ERR_RELAY_STATE');
    const registry = createRegistry('relay', { version: packageVersion });
    const audit = await openAuditLog({
      spoolDir: config.audit.spool_dir,
      keyFile: config.audit.key_file,
      origin: {
        kind: 'relay',
        name: config.node,
        instance: uuidv7(clock),
        namespace: config.namespace,
        version: packageVersion,
      },
      database: config.audit.database_url === undefined ? undefined : { url: config.audit.database_url },
      jsonlDir: config.audit.jsonl_dir,
      sinks: sinksOf(config.audit),
      trustFile: config.audit.trust_file,
      checkpoints: checkpointsOf(config.audit),
      maxSpoolBytes: config.audit.max_spool_bytes,
      mode: config.audit.mode,
      clock,
      logger,
    });
    checkpointMetrics(registry, () => audit.health().checkpoints);
    registerSinkMetrics(registry, () => audit.health().sinks);
    opened.add('audit log', async () => {
      await audit.flush(AUDIT_FLUSH_MS);
      await audit.close();
    });
    const { fence_after_seconds: fenceAfterS, cut_after_seconds: cutAfterS } = config.control;
    const fenceAfterMs = fenceAfterS * SECOND_MS;
    const cutAfterMs = cutAfterS === 'never' ? cutAfterS : cutAfterS * SECOND_MS;
    const publicPorts = portsOf(config.public);
    const control = await openControl({
      databaseUrl: config.control.database_url,
      ...(config.control.listen_url === undefined ? {} : { listenUrl: config.control.listen_url }),
      keyring: config.control.keyring_file,
      namespace: config.namespace,
      resourceHosts: [config.public.host],
      publicPort: controlPorts(config.public)[0] ?? 0,
      node: config.node,
      publicAddress: { host: config.public.host, ports: publicPorts },
      stateDirectory: config.state_dir,
      fenceAfterMs,
      cutAfterMs,
      clock,
      logger,
    });
    opened.add('control database', () => control.close());
    const node = new RelayNode({
      namespace: config.namespace,
      node: config.node,
      publicHost: config.public.host,
      publicPorts,
      listen: config.listen,
      tls,
      trustedProxies: config.trusted_proxies,
      workers: config.workers,
      fenceAfterMs,
      cutAfterMs,
      control,
      audit,
      registry,
      clock,
      logger,
    });
    opened.add('relay node', () => node.close());
    control.countParties(() => node.parties());
    control.listAgents(() => node.agents());
    control.start();
    control.drainOutbox(async (event) => {
      await audit.record(event);
    });
    const addresses = await node.listen();
    const admin = await control.createManagementServer({
      listen: config.admin.listen,
      live: node.live,
      audit,
      allowedHosts: config.admin.allowed_hosts,
      version: packageVersion,
    });
    opened.add('management API', () => admin.close());
    const status = await startStatusServer({
      listen: config.status.listen,
      registry,
      clock,
      ready: () => {
        const reasons = [
          ...node.notReady(),
          ...control.nodeConflicts(),
          ...control.missingParties(),
          ...(audit.available() ? [] : ['audit spool is not writable']),
        ];
        return { ready: reasons.length === 0, reasons };
      },
      status: () => ({
        process: 'relay',
        version: packageVersion,
        namespace: config.namespace,
        node: config.node,
        addresses,
        admin_url: admin.url,
        ...node.status(),
        audit: audit.health(),
      }),
    });
    opened.add('status listener', () => status.close());
    logger.info({ addresses, admin: admin.url, status: status.url }, 'relay is up');
    return {
      addresses,
      adminUrl: admin.url,
      statusUrl: status.url,
      drain: () => node.drain(config.drain_seconds * SECOND_MS),
      reload(next) {
        node.useCertificate(readTls(next));
        return Promise.resolve();
      },
      close: () => opened.close(),
    };
  } catch (thrown) {
    await opened.close();
    throw thrown;
  }
};
