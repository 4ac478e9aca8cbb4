import { stringify } from 'yaml';
import {
  formatHostPort,
  type HostPort,
  PRIVATE_FILE_MODE,
  writeFileAtomically,
} from '../../runtime/index.ts';

/** One relay node of an installation. Paths are written as they are given. */
export interface NodeInstallation {
  readonly name: string;
  /** How agents and gateways dial it; each node has a host of its own. */
  readonly public: {
    readonly host: string;
    readonly controlPort: number;
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
  readonly agentAuditKeyFile: string;
  readonly bundleFile: string;
  /** The key whose signatures of bundles count; undefined: bundles need no signature. */
  readonly policyKey: PolicyKeyFiles | undefined;
  readonly allowLoopback: readonly number[];
  readonly allowAuditDatabase: boolean;
  /** Streams may finish this long after a signal; undefined: the processes' own default. */
  readonly drainSeconds?: number;
  readonly connections: readonly {
    readonly name: string;
    readonly listen: HostPort;
    readonly sendFile: string;
    readonly listenFile: string;
  }[];
}

type Yaml = Record<string, unknown>;

const relays = (installation: Installation): Yaml[] =>
  installation.nodes.map(({ public: { host, controlPort, dataPorts } }) => ({
    host,
    control_port: controlPort,
    data_ports: dataPorts,
  }));

const limits = (installation: Installation): Yaml =>
  installation.drainSeconds === undefined ? {} : { limits: { drain_seconds: installation.drainSeconds } };

/** relay.yaml of one node. */
export const relaySettings = (installation: Installation, node: NodeInstallation): Yaml => ({
  namespace: installation.namespace,
  node: node.name,
  state_dir: node.stateDirectory,
  listen: node.listen.map(formatHostPort),
  tls: { cert_file: node.certFile, key_file: node.keyFile },
  public: {
    host: node.public.host,
    control_port: node.public.controlPort,
    data_ports: node.public.dataPorts,
  },
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
  },
  allow_loopback: installation.allowLoopback,
  allow_audit_database: installation.allowAuditDatabase,
  status: { listen: formatHostPort(installation.statusListen.agent) },
  ...limits(installation),
});

/** gateway.yaml */
export const gatewaySettings = (installation: Installation): Yaml => ({
  namespace: installation.namespace,
  name: installation.gateway,
  state_dir: installation.stateDirectory.gateway,
  relays: relays(installation),
  ca_file: installation.caFile,
  connections: installation.connections.map(({ name, sendFile, listen }) => ({
    name,
    connection_string_file: sendFile,
    listen: formatHostPort(listen),
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
