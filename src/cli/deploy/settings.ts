import { stringify } from 'yaml';
import {
  formatHostPort,
  type HostPort,
  isLoopbackHost,
  PRIVATE_FILE_MODE,
  writeFileAtomically,
} from '../../runtime/index.ts';

/** In a writer's state directory: its checkpoints, to be shipped to where the database cannot reach. */
export const CHECKPOINT_FILE = 'checkpoints.jsonl';

/** One relay node of an installation. Paths are written as they are given. */
export interface NodeInstallation {
  readonly name: string;
  /** How agents and gateways dial it; each node has a host of its own. */
  readonly public: {
    readonly host: string;
    /** The preferred one first. */
    readonly controlPorts: readonly number[];
    readonly dataPorts: readonly number[];
  };
  readonly listen: readonly HostPort[];
  readonly adminListen: HostPort;
  readonly statusListen: HostPort;
  readonly certFile: string;
  readonly keyFile: string;
  readonly controlDatabaseFile: string;
  readonly auditDatabaseFile: string;
  readonly auditKeyFile: string;
  readonly stateDirectory: string;
}

/** Whose signatures of bundles an agent takes. */
export interface PolicyKeyFiles {
  readonly id: string;
  readonly algorithm: 'RS256' | 'ES256';
  readonly publicKeyFile: string;
}

/** What the configurations of one installation are made from. Paths are written as they are given. */
export interface Installation {
  readonly namespace: string;
  readonly nodes: readonly NodeInstallation[];
  readonly agent: string;
  readonly gateway: string;
  readonly statusListen: { readonly agent: HostPort; readonly gateway: HostPort };
  readonly caFile: string;
  readonly keyringFile: string;
  readonly agentAuditDatabaseFile: string;
  readonly cutAfterSeconds: number | 'never';
  readonly stateDirectory: { readonly agent: string; readonly gateway: string };
  /** Trust file, with the operators whose requests for retention count. */
  readonly trustFile: string;
  readonly agentAuditKeyFile: string;
  readonly bundleFile: string;
  /** The key whose signatures of bundles count; undefined: bundles need no signature. */
  readonly policyKey: PolicyKeyFiles | undefined;
  readonly allowLoopback: readonly number[];
  readonly allowAuditDatabase: boolean;
  /** Listeners of a gateway on the agent's machine. */
  readonly ownListeners: readonly HostPort[];
  /** Streams may finish this long after a signal; undefined: the processes' own default. */
  readonly drainSeconds?: number;
  readonly connections: readonly {
    readonly name: string;
    /** By which applications ask SOCKS5 and CONNECT entrances for it, where there are any. */
    readonly target?: HostPort;
    readonly listen: HostPort;
    readonly sendFile: string;
    readonly listenFile: string;
  }[];
}

type Yaml = Record<string, unknown>;

/** How a node is dialled, as its own configuration and those of the ends have it. */
const publicPlace = ({ public: { host, controlPorts, dataPorts } }: NodeInstallation): Yaml => ({
  host,
  control_port: controlPorts.length === 1 ? controlPorts[0] : controlPorts,
  data_ports: dataPorts,
});

const relays = (installation: Installation): Yaml[] => installation.nodes.map((node) => publicPlace(node));

const limits = (installation: Installation): Yaml =>
  installation.drainSeconds === undefined ? {} : { limits: { drain_seconds: installation.drainSeconds } };

/** relay.yaml of one node. */
export const relaySettings = (installation: Installation, node: NodeInstallation): Yaml => ({
  namespace: installation.namespace,
  node: node.name,
  state_dir: node.stateDirectory,
  listen: node.listen.map(formatHostPort),
  tls: { cert_file: node.certFile, key_file: node.keyFile },
  public: publicPlace(node),
  admin: { listen: formatHostPort(node.adminListen) },
  status: { listen: formatHostPort(node.statusListen) },
  control: {
    database_url_file: node.controlDatabaseFile,
    keyring_file: installation.keyringFile,
    cut_after_seconds: installation.cutAfterSeconds,
  },
  audit: {
    database_url_file: node.auditDatabaseFile,
    spool_dir: `${node.stateDirectory}/spool`,
    key_file: node.auditKeyFile,
    trust_file: installation.trustFile,
    checkpoint_file: `${node.stateDirectory}/${CHECKPOINT_FILE}`,
  },
  ...(installation.drainSeconds === undefined ? {} : { drain_seconds: installation.drainSeconds }),
});

const policySettings = ({ bundleFile, policyKey }: Installation): Yaml => {
  if (policyKey === undefined) return { bundle_file: bundleFile, require_signed: false };
  const { id, algorithm, publicKeyFile } = policyKey;
  return {
    bundle_file: bundleFile,
    require_signed: true,
    keys: [{ id, algorithm, public_key_file: publicKeyFile }],
  };
};

/** agent.yaml */
export const agentSettings = (installation: Installation): Yaml => ({
  namespace: installation.namespace,
  name: installation.agent,
  state_dir: installation.stateDirectory.agent,
  relays: relays(installation),
  ca_file: installation.caFile,
  connections: installation.connections.map(({ listenFile }) => ({ connection_string_file: listenFile })),
  policy: policySettings(installation),
  audit: {
    database_url_file: installation.agentAuditDatabaseFile,
    spool_dir: `${installation.stateDirectory.agent}/spool`,
    key_file: installation.agentAuditKeyFile,
    trust_file: installation.trustFile,
    checkpoint_file: `${installation.stateDirectory.agent}/${CHECKPOINT_FILE}`,
  },
  allow_loopback: installation.allowLoopback,
  allow_audit_database: installation.allowAuditDatabase,
  ...(installation.ownListeners.length === 0
    ? {}
    : { own_listeners: installation.ownListeners.map(formatHostPort) }),
  status: { listen: formatHostPort(installation.statusListen.agent) },
  ...limits(installation),
});

/** Whoever chose an address that others reach chose that they may; the file says so, to be narrowed. */
const EVERYBODY: readonly string[] = ['0.0.0.0/0', '::/0'];

/** Whether an application that asks for a target could mean two connections, which gateway.yaml may not say. */
const isAmbiguous = (target: HostPort, { connections }: Installation): boolean => {
  const text = formatHostPort(target);
  const same = connections.filter(
    (other) => other.target !== undefined && formatHostPort(other.target) === text,
  );
  return same.length > 1 || connections.some(({ name }) => name === target.host);
};

/** gateway.yaml */
export const gatewaySettings = (installation: Installation): Yaml => ({
  namespace: installation.namespace,
  name: installation.gateway,
  state_dir: installation.stateDirectory.gateway,
  relays: relays(installation),
  ca_file: installation.caFile,
  connections: installation.connections.map(({ name, target, sendFile, listen }) => ({
    name,
    connection_string_file: sendFile,
    ...(target === undefined || isAmbiguous(target, installation) ? {} : { target: formatHostPort(target) }),
    listen: formatHostPort(listen),
    ...(isLoopbackHost(listen.host) ? {} : { clients: EVERYBODY }),
  })),
  status: { listen: formatHostPort(installation.statusListen.gateway) },
  ...limits(installation),
});

/** Writes one configuration with a heading, for the owner alone. */
export const writeSettings = (file: string, heading: string, settings: Yaml, schemaFile?: string): void => {
  // The line that editors with a YAML language server look for.
  const editor = schemaFile === undefined ? '' : `# yaml-language-server: $schema=${schemaFile}\n`;
  const comment = heading
    .split('\n')
    .map((line) => (line === '' ? '#' : `# ${line}`))
    .join('\n');
  writeFileAtomically(
    file,
    `${editor}${comment}\n${stringify(settings, { lineWidth: 100 })}`,
    PRIVATE_FILE_MODE,
  );
};
